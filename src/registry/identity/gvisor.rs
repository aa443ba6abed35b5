//! gVisor keeps all containers of a pod in one process, whose cgroup is the pod's. Which sandbox it is, only its command
//! line says.
#![deny(clippy::indexing_slicing, clippy::string_slice)]

use crate::base::ids::ContainerId;

/// From `/proc/PID/cmdline` of a process of such a pod.
pub fn sandbox_id(cmdline: &[u8]) -> Option<&str> {
    let mut words = cmdline.split(|&b| b == 0).filter(|word| !word.is_empty());
    let program = words.next()?;
    if !(program.ends_with(b"runsc-sandbox") || program.ends_with(b"runsc")) {
        return None;
    }
    let last = str::from_utf8(words.next_back()?).ok()?;
    let digit = |b: u8| b.is_ascii_digit() || b.is_ascii_lowercase();
    last.split(|c: char| !c.is_ascii_alphanumeric())
        .find(|word| word.len() == 64 && word.bytes().all(digit))
}

/// The pod's uid, if `path_id` is that of a pod without a container.
pub fn pod_of(path_id: &ContainerId) -> Option<&str> {
    let (uid, rest) = path_id.as_str().strip_prefix("/pod/")?.split_once('/')?;
    (rest == "sandbox").then_some(uid)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdez";

    #[test]
    fn the_sandbox_is_the_last_word() {
        let id = |words: &[&str]| {
            let line = words.join("\0") + "\0";
            sandbox_id(line.as_bytes()).map(str::to_owned)
        };
        let found = Some(ID.to_owned());
        assert_eq!(id(&["runsc-sandbox", "--root=/run", "boot", ID]), found);
        assert_eq!(id(&["/usr/bin/runsc", "boot", ID]), found);
        assert_eq!(id(&["runsc", &format!("pod-{ID}.sock")]), found);
        assert_eq!(id(&["runsc", ID, "boot"]), None);
        assert_eq!(id(&["runsc", ID.trim_start_matches('0')]), None);
        assert_eq!(id(&["runsc", &format!("{ID}0")]), None);
        assert_eq!(id(&["runsc", &ID.to_uppercase()]), None);
        assert_eq!(id(&["runsc-gofer", ID]), None);
        assert_eq!(id(&["sh", "runsc", ID]), None);
        assert_eq!(id(&[ID]), None);
        assert_eq!(id(&["runsc"]), None);
        assert_eq!(sandbox_id(b""), None);
        assert_eq!(sandbox_id(b"runsc\0\xff"), None);
    }

    #[test]
    fn only_a_pod_has_a_sandbox() {
        assert_eq!(pod_of(&"/pod/7eca/sandbox".into()), Some("7eca"));
        for other in [
            "/pod/7eca/0123456789ab",
            "/pod/sandbox",
            "/pod/7eca/sandbox/a",
            "/docker/7eca/sandbox",
        ] {
            assert_eq!(pod_of(&other.into()), None, "{other}");
        }
    }

    proptest! {
        #[test]
        fn total(mut line: Vec<u8>, runs: bool) {
            if runs {
                line.splice(0..0, *b"runsc\0");
            }
            if let Some(id) = sandbox_id(&line) {
                prop_assert_eq!(id.len(), 64);
            }
        }
    }
}
