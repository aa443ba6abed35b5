//! What a container may call its cgroups.
#![no_main]
use libfuzzer_sys::fuzz_target;
use tarsier::registry::identity::{CgroupFile, CgroupRoot, Owner, app_id, owner, placement};

fuzz_target!(|bytes: &[u8]| {
    let path = placement(&CgroupFile::parse(bytes), &CgroupRoot::new("/a/b", "/payload"));
    if let Owner::Container(id) = owner(&path.path) {
        assert!(id.as_str().starts_with('/'));
        app_id(&id);
    }
});
