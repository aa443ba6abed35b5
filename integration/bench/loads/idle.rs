//! Ten thousand connections on which nothing happens: what an agent spends on looking at them.
use super::{Load, Scene};
use crate::{interrupt, tools::Outcome};
use anyhow::Result;
use std::time::Duration;
use tarsier_integration::Running;

const CONNECTIONS: u32 = 10_000;
/// Two passes of `kernel.totals_interval`, whenever it begins.
const SECONDS: u64 = 10;

struct Idle {
    ends: Option<[Running; 2]>,
    scene: Scene,
}

pub(super) fn prepare() -> Result<Box<dyn Load>> {
    Ok(Box::new(Idle {
        ends: None,
        scene: Scene::new()?,
    }))
}

impl Load for Idle {
    fn scene(&self) -> &Scene {
        &self.scene
    }

    fn begin(&mut self) -> Result<()> {
        let (address, count) = (self.scene.address().to_string(), CONNECTIONS.to_string());
        let server = self.scene.server().start(&["serve", &address, "--keep"]);
        let client = self.scene.client().start(&["hold", &address, "--count", &count]);
        self.ends = Some([server, client]);
        Ok(())
    }

    fn run(&mut self, _seconds: u64) -> Result<Outcome> {
        interrupt::pause(Duration::from_secs(SECONDS))?;
        let per_second = f64::from(CONNECTIONS);
        Ok(Outcome {
            units: per_second * SECONDS as f64,
            per_second,
            p99_ms: None,
            errors: 0,
        })
    }

    fn end(&mut self) {
        self.ends = None;
    }
}
