//! The configuration as it is now.
use super::{Config, ConfigError, Overrides, Reload, load};
use parking_lot::RwLock;
use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

/// Read by whoever answers a scrape, changed by a reload alone. Actors do not look at it: they are told.
#[derive(Debug)]
pub struct Live {
    file: Option<PathBuf>,
    overrides: Overrides,
    current: RwLock<Arc<Config>>,
    /// One reload after the other.
    turn: tokio::sync::Mutex<()>,
    ok: AtomicU64,
    refused: AtomicU64,
    last_refused: AtomicBool,
}

/// What came of the reloads so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reloads {
    pub ok: u64,
    pub refused: u64,
    pub last_refused: bool,
}

impl Live {
    /// `file` and `overrides` are what `config` was loaded with.
    pub fn new(config: Config, file: Option<PathBuf>, overrides: Overrides) -> Self {
        Self {
            file,
            overrides,
            current: RwLock::new(Arc::new(config)),
            turn: tokio::sync::Mutex::default(),
            ok: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            last_refused: AtomicBool::new(false),
        }
    }

    pub fn get(&self) -> Arc<Config> {
        Arc::clone(&self.current.read())
    }

    pub async fn turn(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.turn.lock().await
    }

    /// Reads all layers again, and changes nothing but the counts. Waits for the disk.
    pub fn read(&self) -> Result<Reload, ConfigError> {
        let read = load(self.file.as_deref(), &self.overrides);
        let count = if read.is_ok() { &self.ok } else { &self.refused };
        count.fetch_add(1, Ordering::Relaxed);
        self.last_refused.store(read.is_err(), Ordering::Relaxed);
        Ok(self.get().reload(&read?))
    }

    pub fn set(&self, config: Config) {
        *self.current.write() = Arc::new(config);
    }

    pub fn reloads(&self) -> Reloads {
        Reloads {
            ok: self.ok.load(Ordering::Relaxed),
            refused: self.refused.load(Ordering::Relaxed),
            last_refused: self.last_refused.load(Ordering::Relaxed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_bad_file_changes_nothing_but_the_counts() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("t.yaml");
        let write = |text: &str| fs::write(&path, text).unwrap();
        write("log: {level: warn}");
        let overrides = Overrides {
            admin_socket: Some("/flag".into()),
            ..Overrides::default()
        };
        let config = load(Some(&path), &overrides).unwrap();
        let live = Live::new(config.clone(), Some(path.clone()), overrides);

        write("log: {level: debug}\nadmin: {socket: /file}");
        let reload = live.read().unwrap();
        assert_eq!(reload.changed, ["log.level"]);
        assert_eq!(reload.needs_restart, [] as [&str; 0], "the flag still wins");
        assert_eq!(*live.get(), config, "until it is set");
        live.set(reload.config.clone());

        write("log:\n  level: loud");
        let refused = live.read().unwrap_err().to_string();
        assert!(refused.contains("line 2, column 10: log.level"), "{refused}");
        let counts = |ok, refused, last_refused| Reloads {
            ok,
            refused,
            last_refused,
        };
        assert_eq!((live.reloads(), &*live.get()), (counts(1, 1, true), &reload.config));
        // A file that was named must be there.
        fs::remove_file(&path).unwrap();
        assert!(live.read().is_err());
        write("");
        assert_eq!(live.read().unwrap().changed, ["log.level"]);
        assert_eq!(live.reloads(), counts(2, 2, false));
    }
}
