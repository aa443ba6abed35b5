//! Reads the configuration again and has it hold: for SIGHUP and for `POST /api/v1/reload`.
use super::scrape::{Faces, Silence, ask};
use crate::{
    config::{ConfigError, Reload},
    registry::messages::SetFilters,
    tracer::messages::SetL7,
};
use serde::{Deserialize, Serialize};
use slog::{error, info, warn};
use std::{error::Error, sync::Arc, time::Duration};
use tokio::time::Instant;

/// The kernel takes its time to verify programs.
const LOADING: Duration = Duration::from_secs(10);

/// `POST /api/v1/reload`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reloaded {
    /// Keys whose new value holds from now on.
    pub changed: Vec<String>,
    /// Keys that are still as they were: their new value waits for the next start.
    pub needs_restart: Vec<String>,
}

#[derive(Debug, thiserror::Error)]
pub enum ReloadError {
    /// Nothing has changed.
    #[error("{message}")]
    Refused { message: String },
    #[error("reading the configuration has failed")]
    Failed,
    /// It was taken, and is still to reach those whom it concerns.
    #[error("the configuration was read, and the registry has not confirmed it yet")]
    Unconfirmed(Silence),
}

impl Faces {
    /// Goes on when nobody waits for it any more: half of it must not be left.
    pub async fn reload(self: Arc<Self>) -> Result<Reloaded, ReloadError> {
        actix_rt::spawn(self.reloaded())
            .await
            .unwrap_or(Err(ReloadError::Failed))
    }

    async fn reloaded(self: Arc<Self>) -> Result<Reloaded, ReloadError> {
        let log = &self.ctx.log;
        let _turn = self.config.turn().await;
        let live = Arc::clone(&self.config);
        let read = actix_rt::task::spawn_blocking(move || live.read()).await;
        let Reload {
            config,
            changed,
            needs_restart,
        } = match read {
            Ok(Ok(reload)) => reload,
            Ok(Err(error)) => {
                error!(log, "the configuration is refused, the old one stays"; "error" => #&error);
                let message = line(&error);
                return Err(ReloadError::Refused { message });
            }
            Err(_panicked) => return Err(ReloadError::Failed),
        };
        let filters = Arc::new(config.filters.clone());
        let l7 = SetL7(config.l7.clone());
        self.verbosity.set(config.log.level.into());
        self.taps.set(config.admin.tap);
        self.config.set(config);
        let told = ask(self.filters.send(SetFilters(filters)), self.deadline()).await;
        info!(log, "the configuration was read again"; "changed" => changed.join(", "));
        if !needs_restart.is_empty() {
            warn!(log, "some of the configuration needs a restart"; "keys" => needs_restart.join(", "));
        }
        // Both are told, whatever becomes of one: the next reload would see no change.
        let switched = if changed.iter().any(|key| key.starts_with("l7.")) {
            ask(self.l7.send(l7), Instant::now() + LOADING).await
        } else {
            Ok(())
        };
        told.and(switched).map_err(ReloadError::Unconfirmed)?;
        Ok(Reloaded { changed, needs_restart })
    }
}

/// With its sources, as at the start.
fn line(error: &ConfigError) -> String {
    let mut line = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        line += &format!(": {error}");
        source = error.source();
    }
    line
}
