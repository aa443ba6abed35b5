use super::*;
use crate::decode::{FileEvent, OpenFile};

const PASSED: Event = Event::FilesPassed { left_out: 0 };

fn seen(owner: Owner, path: &str) -> Event {
    Event::FileSeen(FileEvent {
        owner,
        file: OpenFile {
            path: path.as_bytes().into(),
            truncated: false,
            mount_id: 1,
            device: (8, 1),
            inode: 5,
            deleted: false,
        },
        append: false,
    })
}

/// Container, path, processes; and what was left out.
fn files(registry: &mut RegistryState) -> (Vec<(String, String, usize)>, u64) {
    let samples = registry.samples(now(100));
    let rows = samples.iter().flat_map(|sample| {
        let row = |file: &crate::container::files::FileInUse| {
            let path = String::from_utf8_lossy(&file.file.path).into_owned();
            (sample.id.to_string(), path, file.processes)
        };
        sample.files.iter().map(row)
    });
    let mut rows: Vec<_> = rows.collect();
    rows.sort();
    (rows, samples.iter().map(|sample| sample.files_left_out).sum())
}

fn file(id: &str, path: &str, processes: usize) -> (String, String, usize) {
    (id.to_owned(), path.to_owned(), processes)
}

#[test]
fn files_are_their_processes_containers() {
    let mut registry = registry();
    let web = "/system.slice/web.service";
    registry.inventory(
        &inventory([found(1, "init", "/"), found(2, "web", web), found(3, "web", web)]),
        now(1),
    );
    let of = |tgid| owner(tgid, ROOT, "x");
    let pass = [
        seen(of(1), "/a"),
        seen(of(2), "/a"),
        seen(of(2), "/b"),
        seen(of(3), "/b"),
        Event::FilesLeftOut(of(3).process, 4),
        PASSED,
    ];
    registry.apply(pass, now(1));
    let init = file("/standalone/init", "/a", 1);
    let (a, b) = (file(web, "/a", 1), file(web, "/b", 2));
    assert_eq!(files(&mut registry), (vec![init, a.clone(), b], 4));
    // What is not seen any more is closed, and so is all that its process had that ended.
    registry.apply([exited(of(1)), seen(of(2), "/a"), PASSED], now(2));
    assert_eq!(files(&mut registry), (vec![a], 0));
    registry.apply([PASSED], now(3));
    assert_eq!(files(&mut registry), (vec![], 0));
}

#[test]
fn files_make_no_container() {
    let mut registry = registry();
    let stranger = owner(5, CgroupId(7), "app");
    let effects = registry.apply(
        [seen(stranger, "/a"), Event::FilesLeftOut(stranger.process, 4), PASSED],
        now(1),
    );
    assert!(effects.asks.is_empty());
    assert_eq!(shown(&mut registry), []);
    // Nor do those of a process whose container has no name yet, or of one that had this pid before.
    registry.apply([started(stranger, 1), seen(stranger, "/a"), PASSED], now(2));
    assert_eq!(shown(&mut registry), []);
    let path = Some("/system.slice/app.service".into());
    let cgroup = CgroupId(7);
    registry.answer(Answer::Cgroup { cgroup, path }, now(2));
    let mut earlier = stranger;
    earlier.process.start_ns -= TICK;
    registry.apply([seen(earlier, "/b"), PASSED], now(3));
    assert_eq!(files(&mut registry), (vec![], 0));
    registry.apply([seen(stranger, "/a"), PASSED], now(4));
    let expected = file("/system.slice/app.service", "/a", 1);
    assert_eq!(files(&mut registry), (vec![expected], 0));
}

#[test]
fn files_alone_are_not_worth_an_actor() {
    let mut registry = with_actors();
    registry.inventory(&inventory([found(1, "init", "/")]), now(1));
    let of = owner(1, ROOT, "init");
    let effects = registry.apply([seen(of, "/a"), PASSED], now(1));
    assert!(effects.spawns.is_empty());
    assert_eq!(files(&mut registry).0, [file("/standalone/init", "/a", 1)]);
    // With one, its share has both, and nothing once the files are forgotten.
    let effects = registry.apply([Event::SocketSeen(socket(1, of))], now(2));
    let slot = effects.spawns[0].0;
    let (_, effects) = runs(&mut registry, slot);
    assert_eq!(effects.absorbs.len(), 1);
    for (events, expected) in [(vec![seen(of, "/a"), PASSED], 2), (vec![PASSED], 1), (vec![PASSED], 0)] {
        let effects = registry.apply(events, now(3));
        assert_eq!(
            effects.shares.get(&slot).map_or(0, |share| share.events.len()),
            expected
        );
    }
}
