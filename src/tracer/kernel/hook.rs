//! How it is learnt who sends and receives, and what.
use super::Kernel;
use crate::{
    base::features::{Features, State, feature},
    config::SocketHook,
    tracer::{
        error::{KernelError, hint},
        units::{HOOKS, Hook, Unit, attach, detach},
    },
};

#[derive(Clone, Copy)]
pub(super) struct Attached {
    hook: &'static Hook,
    /// With those programs that also read what is said.
    reads: bool,
}

impl Attached {
    pub(super) fn units(self) -> &'static [Unit] {
        if self.reads { self.hook.reading } else { self.hook.units }
    }
}

impl Kernel {
    /// Whether what is said with name servers is to be read from now on. Takes effect with the next `ensure`.
    pub fn set_dns(&mut self, wanted: bool) {
        self.setup.dns = wanted;
    }

    fn hook_is_off(&self) -> bool {
        self.setup.socket_hook == SocketHook::Off || self.is_off(feature::SOCKET_IO)
    }

    fn is_to_read(&self) -> bool {
        self.setup.dns && !self.is_off(feature::DNS)
    }

    pub(super) fn hook_is_complete(&self, attached: Option<Attached>) -> bool {
        match attached {
            Some(attached) => attached.reads == self.is_to_read(),
            None => self.hook_is_off(),
        }
    }

    /// The first hook that loads, of those that may be used. What is to read and does not load leaves the rest as it is.
    pub(super) fn ensure_hook(&mut self, btf: &aya::Btf, features: &Features) {
        let (off, to_read) = (self.hook_is_off(), self.is_to_read());
        if off {
            features.set(
                feature::SOCKET_IO,
                State::Off,
                "configured",
                "the configuration says so",
            );
        }
        if off || !to_read {
            features.set(feature::DNS, State::Off, "configured", "the configuration says so");
        }
        if off {
            return;
        }
        if let Some(attached) = self.loaded.as_ref().and_then(|loaded| loaded.hook) {
            if attached.reads != to_read {
                self.switch(attached, to_read, btf, features);
            }
            return;
        }
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
                    let attached = Attached { hook, reads: false };
                    self.set_hook(attached);
                    if to_read {
                        self.switch(attached, true, btf, features);
                    }
                    return;
                }
                Err(error) => {
                    features.degraded(feature::SOCKET_IO, error.reason(), hint(&error));
                    if to_read {
                        features.degraded(feature::DNS, error.reason(), hint(&error));
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
    fn switch(&mut self, from: Attached, reads: bool, btf: &aya::Btf, features: &Features) {
        let to = Attached { reads, ..from };
        if to.units().is_empty() {
            let hint = "the kernel has no hook that tells what is sent: neither sock_send_length nor fexit";
            features.degraded(feature::DNS, "no_hook", hint);
            return;
        }
        match self.attach_all(to.units(), btf) {
            Ok(()) => {
                self.detach_all(from.units());
                self.set_hook(to);
                if reads {
                    features.ok(feature::DNS);
                }
            }
            Err(error) => {
                features.degraded(feature::DNS, error.reason(), hint(&error));
            }
        }
    }

    /// All of them, or none.
    fn attach_all(&mut self, units: &'static [Unit], btf: &aya::Btf) -> Result<(), KernelError> {
        let Some(loaded) = &mut self.loaded else { return Ok(()) };
        let mut each = units.iter();
        let attached = each.try_for_each(|unit| attach(&mut loaded.ebpf, unit, btf, &self.setup).map(drop));
        if attached.is_err() {
            self.detach_all(units);
        }
        attached
    }

    fn detach_all(&mut self, units: &'static [Unit]) {
        if let Some(loaded) = &mut self.loaded {
            units.iter().for_each(|unit| detach(&mut loaded.ebpf, unit));
        }
    }
}
