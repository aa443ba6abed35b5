//! What runtimes answer: whatever somebody wrote into labels, specs and annotations.
#![no_main]
use libfuzzer_sys::fuzz_target;
use std::collections::HashMap;
use tarsier::runtimes::{
    containerd::spec::{self, Record},
    crio,
    metadata::{Metadata, limits},
};

fn check(metadata: &Metadata) {
    assert!(metadata.name.len() <= limits::NAME_BYTES);
    assert!(metadata.image.len() <= limits::VALUE_BYTES);
    assert!(metadata.labels.len() <= limits::LABELS && metadata.environment.len() <= limits::LABELS);
    assert!(metadata.mounts.len() <= limits::MOUNTS);
    assert!(metadata.log.iter().all(|log| log.path.is_absolute()));
}

fuzz_target!(|bytes: &[u8]| {
    let text = String::from_utf8_lossy(bytes);
    check(&spec::describe(&Record {
        id: &text,
        image: &text,
        labels: &HashMap::from([("nerdctl/name".to_owned(), text.to_string())]),
        spec: bytes,
        cri: bytes,
    }));
    if let Ok(metadata) = crio::describe(&text, bytes) {
        check(&metadata);
    }
});
