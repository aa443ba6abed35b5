//! What the tracer does about what the kernel could not tell it, and about a node that leaves it no time to listen.
use super::{
    actor::{TracerActor, nanos},
    error::KernelError,
};
use crate::base::{
    context::Ctx,
    features::{State, feature},
    now::Now,
};
use std::time::Duration;

/// What the kernel had refused when last looked at.
#[derive(Default)]
pub(super) struct Losses {
    refused: u64,
    processes: u64,
    ends: u64,
    /// Until then the feature table says so.
    shown_until_ns: u64,
    pub(super) sweep: bool,
    pub(super) inventory: bool,
    /// The same, of the sockets.
    sockets: bool,
}

impl TracerActor {
    /// Whether something may have found the ring full since the last time.
    pub(super) fn look_for_losses(&mut self, now: Now) -> bool {
        // Repeated overflow would otherwise switch the row with every drain.
        const SHOWN: Duration = Duration::from_secs(30);
        let Some(losses) = self.ctx.ledger.losses() else {
            return true;
        };
        let refused = losses.refused > self.losses.refused;
        if refused {
            self.losses.refused = losses.refused;
            self.losses.shown_until_ns = now.monotonic_ns + nanos(SHOWN);
            let hint = "the ring was full: raise kernel.news_ring_bytes, or give the agent more CPU";
            if self.ctx.features.degraded(feature::NEWS_RING, "ring_full", hint) {
                slog::warn!(self.ctx.log, "the news ring was full"; "refused" => losses.refused);
            }
        } else if self.losses.shown_until_ns > 0 && now.monotonic_ns > self.losses.shown_until_ns {
            self.losses.shown_until_ns = 0;
            self.ctx.features.ok(feature::NEWS_RING);
        }
        self.losses.inventory |= losses.processes > self.losses.processes;
        self.losses.sockets |= losses.processes > self.losses.processes || losses.ends > self.losses.ends;
        self.losses.processes = losses.processes;
        self.losses.sweep |= losses.ends > self.losses.ends;
        self.losses.ends = losses.ends;
        refused
    }

    /// Of the sockets: at first, after losses, and now and then, for a program may have been skipped without anybody noticing.
    pub(super) fn take_inventory(&mut self, now: Now) {
        // While news is being lost there would be one after the other.
        const AT_MOST_EVERY: Duration = Duration::from_secs(1);
        let since_last = Duration::from_nanos(now.monotonic_ns.saturating_sub(self.last_inventory_ns));
        let lost = self.losses.sockets && since_last >= AT_MOST_EVERY;
        let is_crowded = self.kernel.lock().is_crowded();
        let crowded = self.crowding.is_due(is_crowded, since_last);
        if now.monotonic_ns < self.next_inventory_ns && !lost && !crowded {
            return;
        }
        // What has no descriptor is seen to begin, unless that was before the programs.
        let waiting = self.last_inventory_ns == 0 || lost;
        self.losses.sockets = false;
        let taken = self
            .kernel
            .lock()
            .inventory(waiting, now.monotonic_ns, &self.ctx.features);
        let end_ns = self.ctx.clock.monotonic_ns();
        self.next_inventory_ns = end_ns + nanos(self.settings.inventory_interval);
        match taken {
            // As long as there is nothing to look with.
            Ok(false) => return,
            Ok(true) => self.ctx.features.ok(feature::INVENTORY),
            Err(error) => self.unreadable(feature::INVENTORY, &error),
        };
        self.last_inventory_ns = end_ns;
        // A pass shows what it has found.
        self.next_totals_ns = 0;
    }

    /// Says whether that is news.
    pub(super) fn unreadable(&self, feature: &'static str, error: &KernelError) -> bool {
        let new = self.ctx.features.degraded(feature, "unreadable", error.to_string());
        if new {
            slog::warn!(self.ctx.log, "an iterator cannot be read"; "feature" => feature, "error" => #error);
        }
        new
    }

    /// Until the next time somebody looks: what is left of the share is taken, or what is used up is given back.
    pub(super) fn claim_share(&mut self) {
        let Ctx { features, log, .. } = &self.ctx;
        if let Err(error) = self.share.claim(self.ctx.clock.monotonic_ns()) {
            let hint = format!(
                "on a full node the agent is kept waiting while its rings run full: CAP_SYS_NICE prevents that, and where the \
                 kernel divides real time among cgroups, a cpu.rt_runtime_us of the agent's ({error})"
            );
            slog::info!(log, "real-time priority is refused"; "hint" => &hint);
            features.set(feature::REALTIME, State::Off, "no_permission", hint);
        } else if self.share.is_held() && !features.is_ok(feature::REALTIME) {
            features.ok(feature::REALTIME);
        }
    }
}
