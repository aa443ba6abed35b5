//! What a container's processes have been through, and what they are.
use crate::base::ids::Application;
use std::collections::BTreeMap;

#[derive(Debug, Default)]
pub struct Lifecycle {
    pub restarts: u64,
    pub oom_kills: u64,
    /// How many of its living processes are each.
    applications: BTreeMap<Application, u32>,
}

impl Lifecycle {
    /// A process is `to` from now on, and no longer `from`.
    pub fn application(&mut self, from: Option<&Application>, to: Option<Application>) {
        if let Some(from) = from
            && let Some(processes) = self.applications.get_mut(from)
        {
            *processes -= 1;
            if *processes == 0 {
                self.applications.remove(from);
            }
        }
        if let Some(to) = to {
            *self.applications.entry(to).or_default() += 1;
        }
    }

    /// In the order of their names.
    pub fn applications(&self) -> impl Iterator<Item = &Application> {
        self.applications.keys()
    }

    pub fn forget_applications(&mut self) {
        self.applications.clear();
    }

    /// Nothing has happened that is worth remembering without the processes.
    pub fn is_trivial(&self) -> bool {
        self.restarts == 0 && self.oom_kills == 0
    }

    pub fn absorb(&mut self, other: Self) {
        self.restarts += other.restarts;
        self.oom_kills += other.oom_kills;
        for (application, processes) in other.applications {
            *self.applications.entry(application).or_default() += processes;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(lifecycle: &Lifecycle) -> Vec<&str> {
        lifecycle.applications().map(Application::as_str).collect()
    }

    #[test]
    fn an_application_is_there_while_one_of_its_processes_is() {
        let (nginx, php) = (Application::from("nginx"), Application::from("php"));
        let mut lifecycle = Lifecycle::default();
        lifecycle.application(None, Some(php.clone()));
        lifecycle.application(None, Some(nginx.clone()));
        lifecycle.application(None, Some(nginx.clone()));
        assert_eq!(names(&lifecycle), ["nginx", "php"]);
        lifecycle.application(Some(&nginx), None);
        assert_eq!(names(&lifecycle), ["nginx", "php"]);
        lifecycle.application(Some(&nginx), Some(php.clone()));
        assert_eq!(names(&lifecycle), ["php"]);
        // Of a successor that starts without what its predecessor knew.
        lifecycle.application(Some(&nginx), None);
        assert_eq!(names(&lifecycle), ["php"]);
        assert!(lifecycle.is_trivial());
    }

    #[test]
    fn absorbing_adds_up() {
        let of = |restarts, oom_kills, name| {
            let mut lifecycle = Lifecycle {
                restarts,
                oom_kills,
                ..Lifecycle::default()
            };
            lifecycle.application(None, Some(Application::from(name)));
            lifecycle
        };
        let mut one = of(1, 2, "nginx");
        one.absorb(of(3, 4, "php"));
        assert_eq!((one.restarts, one.oom_kills), (4, 6));
        assert_eq!(names(&one), ["nginx", "php"]);
        assert!(!one.is_trivial());
    }
}
