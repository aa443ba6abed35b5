//! The eBPF programs and maps of any process, and what the kernel says of them.
use anyhow::{Context as _, Result, ensure};
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    process::Command,
};

/// How often a program ran, and how long in all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Runs {
    pub(crate) count: u64,
    pub(crate) ns: u64,
}

/// What a process holds by descriptors.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Held {
    pub(crate) programs: BTreeSet<u64>,
    /// Kernel memory by id of the map.
    maps: BTreeMap<u64, u64>,
}

impl Held {
    pub(crate) fn by(pid: u32) -> Result<Self> {
        let mut held = Self::default();
        let folder = format!("/proc/{pid}/fdinfo");
        for entry in fs::read_dir(&folder).with_context(|| folder.clone())? {
            // A descriptor may be closed meanwhile.
            if let Ok(text) = fs::read_to_string(entry?.path()) {
                held.add(&text);
            }
        }
        Ok(held)
    }

    fn add(&mut self, fdinfo: &str) {
        let field = |name: &str| -> Option<u64> {
            let line = fdinfo.lines().find_map(|line| line.strip_prefix(name))?;
            line.strip_prefix(':')?.trim().parse().ok()
        };
        // Links name their program, too: an agent may have closed the program itself.
        self.programs.extend(field("prog_id"));
        if let (Some(id), Some(bytes)) = (field("map_id"), field("memlock")) {
            self.maps.insert(id, bytes);
        }
    }

    pub(crate) fn map_bytes(&self) -> u64 {
        self.maps.values().sum()
    }

    /// By name of the program; those of one name together.
    pub(crate) fn runs(&self) -> Result<BTreeMap<String, Runs>> {
        let output = Command::new("bpftool")
            .args(["prog", "show", "--json"])
            .output()
            .context("bpftool")?;
        ensure!(output.status.success(), "bpftool: {}", output.status);
        self.runs_in(&output.stdout)
    }

    fn runs_in(&self, json: &[u8]) -> Result<BTreeMap<String, Runs>> {
        #[derive(Deserialize)]
        struct Program {
            id: u64,
            #[serde(default)]
            name: String,
            // Left out while they are zero.
            #[serde(default)]
            run_time_ns: u64,
            #[serde(default)]
            run_cnt: u64,
        }
        let programs: Vec<Program> = serde_json::from_slice(json).context("not as bpftool prints")?;
        let mut runs: BTreeMap<String, Runs> = BTreeMap::new();
        for program in programs.into_iter().filter(|one| self.programs.contains(&one.id)) {
            let sum = runs.entry(program.name).or_default();
            sum.count += program.run_cnt;
            sum.ns += program.run_time_ns;
        }
        Ok(runs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROGRAM: &str = "pos:\t0\nflags:\t02000002\nprog_type:\t26\nprog_jited:\t1\nprog_tag:\t82544bf05ffc899\n\
        memlock:\t4096\nprog_id:\t13207\nrun_time_ns:\t0\nrun_cnt:\t0\n";
    const LINK: &str =
        "pos:\t0\nlink_type:\traw_tracepoint\nlink_id:\t9550\nprog_tag:\tda2a6082995c5b43\nprog_id:\t13212\n";
    const MAP: &str = "pos:\t0\nmap_type:\t27\nkey_size:\t0\nmemlock:\t1065288\nmap_id:\t9065\nfrozen:\t0\n";

    fn held() -> Held {
        let mut held = Held::default();
        for text in [PROGRAM, LINK, MAP, MAP, "pos:\t0\nmnt_id:\t12\n"] {
            held.add(text);
        }
        held
    }

    #[test]
    fn programs_links_and_maps_are_told_apart_and_counted_once() {
        let held = held();
        assert_eq!(held.programs, BTreeSet::from([13_207, 13_212]));
        assert_eq!(held.map_bytes(), 1_065_288);
    }

    #[test]
    fn runs_of_others_are_left_out() {
        let json = br#"[{"id":13207,"type":"tracing","name":"tcp_state","run_time_ns":500,"run_cnt":4},
            {"id":13212,"type":"tracing","name":"tcp_state"},
            {"id":7,"type":"cgroup_device","name":"sd_devices","run_time_ns":900,"run_cnt":9}]"#;
        let expected = BTreeMap::from([("tcp_state".to_owned(), Runs { count: 4, ns: 500 })]);
        assert_eq!(held().runs_in(json).unwrap(), expected);
        assert!(held().runs_in(b"Error: no").is_err());
    }
}
