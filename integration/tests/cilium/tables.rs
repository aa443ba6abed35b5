//! Tables as Cilium pins them, in a BPF file system of the test's own. Everything in them is written here byte by byte, so that
//! the agent is not its own witness.
use aya::maps::{HashMap, Map, MapData};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use std::{
    fs,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
};

/// Of `linux/bpf.h`.
pub(crate) const HASH: u32 = 1;
pub(crate) const ARRAY: u32 = 2;
pub(crate) const LRU_HASH: u32 = 9;

/// A folder that is a BPF file system, until it is dropped.
pub(crate) struct BpfFs {
    folder: tempfile::TempDir,
}

impl BpfFs {
    pub(crate) fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("tarsier-it-").tempdir().unwrap();
        // As systemd mounts it.
        let mode = Some(c"mode=700");
        mount("tarsier-it", folder.path(), "bpf", MountFlags::empty(), mode).expect("the kernel has bpffs");
        Self { folder }
    }

    /// Where the tables go: as Cilium's, not the root. Nothing makes it but [`BpfFs::make`].
    pub(crate) fn globals(&self) -> PathBuf {
        self.folder.path().join("tc/globals")
    }

    pub(crate) fn make(&self) -> PathBuf {
        fs::create_dir_all(self.globals()).unwrap();
        self.globals()
    }
}

impl Drop for BpfFs {
    fn drop(&mut self) {
        let gone = unmount(self.folder.path(), UnmountFlags::DETACH);
        assert!(std::thread::panicking() || gone.is_ok(), "{:?} is left", self.folder);
    }
}

/// Any map at any name.
pub(crate) fn pin(path: &Path, kind: u32, key: usize, value: usize) -> MapData {
    let map = aya_obj::Map::new_from_params(kind, key as u32, value as u32, 4096, 0);
    let map = MapData::create(map, "tarsier_it", None).unwrap();
    map.pin(path).unwrap();
    map
}

pub(crate) struct Table<const K: usize, const V: usize> {
    map: HashMap<MapData, [u8; K], [u8; V]>,
    pub(crate) id: u32,
}

impl<const K: usize, const V: usize> Table<K, V> {
    pub(crate) fn pin(folder: &Path, name: &str, kind: u32) -> Self {
        let map = pin(&folder.join(name), kind, K, V);
        let id = map.info().unwrap().id();
        let map = HashMap::try_from(Map::from_map_data(map).unwrap()).unwrap();
        Self { map, id }
    }

    fn put(&mut self, key: &[u8], value: &[u8]) {
        let (key, value): ([u8; K], [u8; V]) = (key.try_into().unwrap(), value.try_into().unwrap());
        self.map.insert(key, value, 0).unwrap();
    }
}

fn bytes(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(ip) => ip.octets().into(),
        IpAddr::V6(ip) => ip.octets().into(),
    }
}

/// Connections of IPv4 (14 bytes) or IPv6 (38).
pub(crate) type Connections<const K: usize> = Table<K, 56>;

impl<const K: usize> Connections<K> {
    pub(crate) fn lead(&mut self, client: SocketAddr, service: SocketAddr, backend: u32) {
        let mut key = [bytes(service.ip()), bytes(client.ip())].concat();
        key.extend(client.port().to_be_bytes());
        key.extend(service.port().to_be_bytes());
        // TCP, of a service.
        key.extend([6, 4]);
        let mut value = [0xee; 56];
        value[8..16].copy_from_slice(&u64::from(backend).to_ne_bytes());
        self.put(&key, &value);
        // The way to the backend is in the same table, and has something else in the place of the number.
        *key.last_mut().unwrap() = 0;
        value[8..16].copy_from_slice(&77_u64.to_ne_bytes());
        self.put(&key, &value);
    }
}

impl<const V: usize> Table<4, V> {
    /// Backends.
    pub(crate) fn name(&mut self, number: u32, backend: SocketAddr) {
        let mut value = bytes(backend.ip());
        value.extend(backend.port().to_be_bytes());
        // Protocol and flags, and what there is after them.
        value.extend([6, 0]);
        value.resize(V, 0xee);
        self.put(&number.to_ne_bytes(), &value);
    }
}
