//! How it is learnt who sends and receives, and what.
use super::{Kernel, Loaded};
use crate::{
    base::features::{Features, State, feature},
    config::{L7, SocketHook},
    tracer::{
        error::{KernelError, hint},
        units::{COUNTING, HOOKS, Hook, Unit, attach, detach},
    },
};
use std::iter::Chain;

#[derive(Clone, Copy)]
pub(super) struct Attached {
    hook: &'static Hook,
    /// With those programs that also read what is said.
    reads: bool,
    /// And what was counted on connections. Nothing: that is not wanted.
    counting: &'static [Unit],
}

type Units = Chain<std::slice::Iter<'static, Unit>, std::slice::Iter<'static, Unit>>;

impl Attached {
    fn moved(self) -> &'static [Unit] {
        if self.reads { self.hook.reading } else { self.hook.units }
    }

    fn counts(self) -> bool {
        !self.counting.is_empty()
    }

    pub(super) fn units(self) -> Units {
        self.moved().iter().chain(self.counting)
    }
}

/// What a hook is to do.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Wish {
    dns: bool,
    counts: bool,
}

impl Wish {
    fn reads(self) -> bool {
        self.dns || self.counts
    }

    /// The rows of those that are wanted, and are not.
    pub(super) fn rows(self) -> [(&'static str, bool); 2] {
        [(feature::DNS, self.dns), (feature::L7, self.counts)]
    }
}

impl Kernel {
    /// What is to be read of what processes say. Takes effect with the next `ensure`.
    pub fn set_l7(&mut self, l7: &L7) {
        self.setup.l7 = l7.clone();
    }

    fn hook_is_off(&self) -> bool {
        self.setup.socket_hook == SocketHook::Off || self.is_off(feature::SOCKET_IO)
    }

    pub(super) fn wish(&self) -> Wish {
        Wish {
            dns: self.setup.l7.dns && !self.is_off(feature::DNS),
            counts: self.setup.l7.protocols() != 0 && !self.is_off(feature::L7),
        }
    }

    pub(super) fn hook_is_complete(&self, loaded: &Loaded) -> bool {
        match loaded.hook {
            Some(attached) => {
                let wish = self.wish();
                attached.reads == wish.reads()
                    && attached.counts() == wish.counts
                    && !loaded.lanes.is_to_change(&self.setup.l7, attached.counts())
            }
            None => self.hook_is_off(),
        }
    }

    /// The first hook that loads, of those that may be used. What is to read and does not load leaves the rest as it is.
    pub(super) fn ensure_hook(&mut self, btf: &aya::Btf, features: &Features) {
        let (off, wish) = (self.hook_is_off(), self.wish());
        if off {
            features.set(
                feature::SOCKET_IO,
                State::Off,
                "configured",
                "the configuration says so",
            );
        }
        for (row, wanted) in wish.rows() {
            if off || !wanted {
                features.set(row, State::Off, "configured", "the configuration says so");
            }
        }
        if off {
            return;
        }
        if self.loaded.as_ref().is_some_and(|loaded| loaded.hook.is_none()) {
            self.find_hook(btf, features);
        }
        self.switch(wish, btf, features);
        let l7 = &self.setup.l7;
        if let Some(loaded) = &mut self.loaded {
            let counts = loaded.hook.is_some_and(Attached::counts);
            if let Err(error) = loaded.lanes.switch(l7, counts)
                && wish.counts
            {
                features.degraded(feature::L7, error.reason(), hint(&error));
            }
        }
    }

    fn find_hook(&mut self, btf: &aya::Btf, features: &Features) {
        let wanted = self.setup.socket_hook;
        let usable = |hook: &&Hook| wanted == SocketHook::Auto || wanted == hook.kind;
        for hook in HOOKS.iter().filter(usable) {
            match self.attach_all(hook.units, btf) {
                Ok(()) => {
                    if hook.lacks.is_empty() {
                        features.ok(feature::SOCKET_IO);
                    } else {
                        features.degraded(feature::SOCKET_IO, "receives_only", hook.lacks);
                    }
                    return self.set_hook(Attached {
                        hook,
                        reads: false,
                        counting: &[],
                    });
                }
                Err(error) => {
                    features.degraded(feature::SOCKET_IO, error.reason(), hint(&error));
                    for (row, wanted) in self.wish().rows() {
                        if wanted {
                            features.degraded(row, error.reason(), hint(&error));
                        }
                    }
                }
            }
        }
    }

    fn set_hook(&mut self, attached: Attached) {
        if let Some(loaded) = &mut self.loaded {
            loaded.hook = Some(attached);
        }
    }

    /// The others come before these go: nobody who sends meanwhile is missed.
    fn switch(&mut self, wish: Wish, btf: &aya::Btf, features: &Features) {
        let Some(from) = self.loaded.as_ref().and_then(|loaded| loaded.hook) else {
            return;
        };
        let fails = |reason, hint: &str| {
            for (row, wanted) in wish.rows() {
                if wanted {
                    features.degraded(row, reason, hint);
                }
            }
        };
        let mut now = from;
        if from.reads != wish.reads() {
            let to = Attached {
                reads: wish.reads(),
                ..from
            };
            if to.moved().is_empty() {
                let hint = "the kernel has no hook that tells what is sent: neither sock_send_length nor fexit";
                return fails("no_hook", hint);
            }
            if let Err(error) = self.attach_all(to.moved(), btf) {
                return fails(error.reason(), &hint(&error));
            }
            self.detach_all(from.moved());
            now = to;
            self.set_hook(now);
        }
        if wish.dns {
            features.ok(feature::DNS);
        }
        if from.counts() != wish.counts {
            now.counting = if wish.counts {
                match self.attach_counting(btf) {
                    Ok(units) => units,
                    Err(error) => {
                        features.degraded(feature::L7, error.reason(), hint(&error));
                        return;
                    }
                }
            } else {
                self.detach_all(from.counting);
                &[]
            };
            self.set_hook(now);
        }
        if wish.counts {
            features.ok(feature::L7);
        }
    }

    /// Those that this kernel has something for.
    fn attach_counting(&mut self, btf: &aya::Btf) -> Result<&'static [Unit], KernelError> {
        const ALL: &[Unit] = &COUNTING;
        match self.attach_all(ALL, btf) {
            Err(error) if error.is_no_function() => {
                let [_, others @ ..] = ALL else { return Err(error) };
                self.attach_all(others, btf)?;
                Ok(others)
            }
            attached => attached.map(|()| ALL),
        }
    }

    /// All of them, or none.
    fn attach_all(&mut self, units: &'static [Unit], btf: &aya::Btf) -> Result<(), KernelError> {
        let Some(loaded) = &mut self.loaded else { return Ok(()) };
        let setup = &self.setup;
        let attached = units.iter().try_for_each(|unit| {
            let iterator = attach(&mut loaded.ebpf, unit, btf, setup)?;
            loaded
                .iterators
                .extend(iterator.map(|iterator| (unit.program, iterator)));
            Ok(())
        });
        if attached.is_err() {
            self.detach_all(units);
        }
        attached
    }

    fn detach_all(&mut self, units: &'static [Unit]) {
        if let Some(loaded) = &mut self.loaded {
            for unit in units {
                loaded.iterators.retain(|(program, _)| *program != unit.program);
                detach(&mut loaded.ebpf, unit);
            }
        }
    }
}
