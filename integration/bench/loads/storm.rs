//! Short-lived processes one after the other: fork, exec, exit.
use super::{Load, Scene};
use crate::tools::Outcome;
use anyhow::Result;
use tarsier_integration::Stopwatch;

const FIRST: u64 = 300;

struct Storm {
    per_second: f64,
    scene: Scene,
}

pub(super) fn prepare() -> Result<Box<dyn Load>> {
    let mut storm = Storm {
        per_second: 0.0,
        scene: Scene::new()?,
    };
    storm.per_second = storm.processes(FIRST).per_second;
    Ok(Box::new(storm))
}

impl Storm {
    fn processes(&self, count: u64) -> Outcome {
        let watch = Stopwatch::start();
        self.scene.client().run(&["storm", "--count", &count.to_string()]);
        Outcome {
            units: count as f64,
            per_second: count as f64 / watch.elapsed().as_secs_f64(),
            p99_ms: None,
            errors: 0,
        }
    }
}

impl Load for Storm {
    fn scene(&self) -> &Scene {
        &self.scene
    }

    fn run(&mut self, seconds: u64) -> Result<Outcome> {
        Ok(self.processes((self.per_second * seconds as f64) as u64))
    }
}
