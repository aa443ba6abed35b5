//! Which of the sockets that a runtime may have are there.
use std::{
    collections::HashSet,
    fs, io,
    os::unix::fs::{FileTypeExt, MetadataExt},
    path::{Path, PathBuf},
};

/// A node may have any number of users.
const MAX_SOCKETS: usize = 64;

/// In the order of `paths`, each once by whatever name. A component `*` stands for every entry of its folder.
pub(super) async fn present(paths: &[PathBuf]) -> Vec<PathBuf> {
    let paths = paths.to_vec();
    // Folders of users are among them, and what they mount there may not answer.
    let found = tokio::task::spawn_blocking(move || look(&paths)).await;
    found.unwrap_or_default()
}

/// The paths stay as they were: through `/proc/1/root`, which reads as `/`, a resolved one would lead elsewhere.
fn look(paths: &[PathBuf]) -> Vec<PathBuf> {
    let (mut found, mut files) = (Vec::new(), HashSet::new());
    for path in paths.iter().flat_map(|path| expand(path)) {
        let Ok(file) = fs::metadata(&path) else { continue };
        let is_socket = file.file_type().is_socket();
        if is_socket && found.len() < MAX_SOCKETS && files.insert((file.dev(), file.ino())) {
            found.push(path);
        }
    }
    found
}

fn expand(path: &Path) -> Vec<PathBuf> {
    let mut paths = vec![PathBuf::new()];
    for component in path.components() {
        let name = component.as_os_str();
        if name == "*" {
            paths = paths
                .iter()
                .flat_map(|folder| entries(folder).unwrap_or_default())
                .collect();
            paths.sort_unstable();
            paths.truncate(MAX_SOCKETS);
        } else {
            paths.iter_mut().for_each(|path| path.push(name));
        }
    }
    paths
}

fn entries(folder: &Path) -> io::Result<Vec<PathBuf>> {
    // Sorted and cut by the caller; of more than that nobody has heard.
    let entries = fs::read_dir(folder)?.take(16 * MAX_SOCKETS);
    Ok(entries.filter_map(|entry| Some(entry.ok()?.path())).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::{fs::symlink, net::UnixListener};

    #[test]
    fn sockets_only_in_order_and_each_once() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for user in ["1000", "1001", "1002"] {
            fs::create_dir_all(at(user)).unwrap();
        }
        fs::write(at("1000/x.sock"), "").unwrap();
        let _sockets = ["1001/x.sock", "1002/x.sock", "x.sock"].map(|name| UnixListener::bind(at(name)).unwrap());
        symlink(at("x.sock"), at("other.sock")).unwrap();
        let paths = [
            at("missing.sock"),
            at("x.sock"),
            at("other.sock"),
            at("*/x.sock"),
            at("*/y/*"),
        ];
        assert_eq!(look(&paths), [at("x.sock"), at("1001/x.sock"), at("1002/x.sock")]);
        assert_eq!(look(&[]), [] as [PathBuf; 0]);
    }

    #[test]
    fn of_another_root() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.sock");
        let _socket = UnixListener::bind(&path).unwrap();
        // Reads as `/`, as that of the first process does, which may not be looked at everywhere.
        let there = Path::new("/proc/self/root").join(path.strip_prefix("/").unwrap());
        assert_eq!(look(&[there.clone(), path]), [there]);
    }
}
