use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use futures_lite::future::block_on;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;
use crate::cache::Answer;
use crate::limits::{CHUNK, SETTLED_AFTER};
use crate::respond::Status;
use crate::site::{SiteSettings, Sites};

struct Answers;

impl Appliance for Answers {
    fn status(&self, reply: oneshot::Sender<Value>) {
        reply.send(json!({ "connections": 7 })).unwrap();
    }

    fn reload(&self, reply: oneshot::Sender<Result<usize, String>>) {
        reply.send(Err("line 7: nonsense".to_owned())).unwrap();
    }

    fn lame_duck(&self, _: bool) -> Result<(), &'static str> {
        Ok(())
    }

    fn is_lame_duck(&self) -> bool {
        false
    }

    fn sites(&self) -> Arc<Sites> {
        Arc::new(Sites::open(&[SiteSettings::new("/".into())], None).unwrap())
    }

    fn beat(&self) {}
}

fn config(cache_size: u64) -> (ColdHandle, ColdConfig) {
    let (handle, orders) = orders();
    let config = ColdConfig {
        control: None,
        admin: None,
        health: supervisor::none(),
        appliance: Arc::new(Answers),
        cache: Arc::new(Cache::new(cache_size)),
        orders,
        watch: false,
        sandbox: Sandbox::none(DriverKind::Uring),
        driver: DriverKind::default(),
        // As long as a busy machine takes, so that each answer is of what is there.
        patience: Duration::from_secs(60),
    };
    (handle, config)
}

fn site(root: &Path) -> Arc<Site> {
    Arc::new(Site::open(SiteSettings::new(root.to_owned())).unwrap())
}

/// A cold side and the site that it is asked about.
struct Bench {
    cold: ColdSide,
    handle: ColdHandle,
    site: Arc<Site>,
    cache: Arc<Cache>,
}

fn start_with(root: &Path, cache_size: u64) -> Bench {
    let (handle, config) = config(cache_size);
    let cache = Arc::clone(&config.cache);
    Bench { cold: ColdSide::start(config).unwrap(), handle, site: site(root), cache }
}

fn start(root: &Path) -> Bench {
    start_with(root, 1 << 26)
}

fn load(bench: &Bench, path: &str) -> Arc<Entry> {
    let wake: Wake = Arc::new(|| {});
    let asked = bench.handle.load(&bench.site, path.as_bytes(), None, &wake);
    match block_on(answer(asked)).unwrap() {
        Loaded::Entry(entry) => entry,
        Loaded::Part(_) => panic!("an entry was asked for"),
    }
}

fn room(cache: &Cache, octets: usize) -> Room {
    let buffers = cache.buffers();
    Room { charge: buffers.take(octets).unwrap(), place: buffers.place().unwrap() }
}

fn read(bench: &Bench, entry: &Arc<Entry>, span: Span) -> Result<Loaded, LoadError> {
    let room = room(&bench.cache, span.len as usize);
    let wake: Wake = Arc::new(|| {});
    block_on(answer(bench.handle.read(&bench.site, entry, span, room, &wake)))
}

fn status(cold: &Bench, path: &str) -> Option<Status> {
    match load(cold, path).answer {
        Answer::Refused(status) => Some(status),
        _ => None,
    }
}

#[test]
fn symlinks_stay_beneath_the_root() {
    let dir = TempDir::new().unwrap();
    let root = dir.path().join("www");
    fs::create_dir_all(root.join("sub")).unwrap();
    fs::write(dir.path().join("secret"), "secret").unwrap();
    fs::write(root.join("sub/file"), "x").unwrap();
    symlink("../../secret", root.join("sub/up")).unwrap();
    symlink(dir.path().join("secret"), root.join("absolute")).unwrap();
    symlink("..", root.join("parent")).unwrap();
    symlink("sub/file", root.join("inside")).unwrap();
    symlink("loop", root.join("loop")).unwrap();
    let cold = start(&root);
    assert_eq!(status(&cold, "inside"), None);
    for path in ["sub/up", "absolute", "parent/secret", "parent/", "loop"] {
        assert_eq!(status(&cold, path), Some(Status::Forbidden), "{path}");
    }
    // Not from the decoder, which refuses these: the second fence stands by itself.
    for path in ["../secret", "/etc/passwd", "sub/../../secret"] {
        assert_eq!(status(&cold, path), Some(Status::Forbidden), "{path}");
    }
}

#[test]
fn only_regular_files_are_opened() {
    let root = TempDir::new().unwrap();
    let fifo = root.path().join("fifo");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &fifo,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o644),
        0,
    )
    .unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(root.path().join("socket")).unwrap();
    fs::create_dir(root.path().join("dir")).unwrap();
    fs::create_dir_all(root.path().join("odd/index.html")).unwrap();
    let cold = start(root.path());
    for path in ["fifo", "socket", "dir/", "odd/", ""] {
        assert_eq!(status(&cold, path), Some(Status::Forbidden), "{path}");
    }
    assert!(matches!(&load(&cold, "dir").answer, Answer::Redirect(to) if **to == *"/dir/"));
    let long = "x".repeat(300);
    for path in ["none", "none/", "none/none", "fifo/x", &long] {
        assert_eq!(status(&cold, path), Some(Status::NotFound), "{path}");
    }
}

#[test]
fn unreadable_files_are_forbidden() {
    let root = TempDir::new().unwrap();
    let file = root.path().join("file");
    fs::write(&file, "x").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o000)).unwrap();
    if fs::File::open(&file).is_ok() {
        // Root reads everything; the end-to-end tests run as another user.
        return;
    }
    assert_eq!(status(&start(root.path()), "file"), Some(Status::Forbidden));
}

#[test]
fn every_waiter_is_woken() {
    let root = TempDir::new().unwrap();
    fs::write(root.path().join("file"), vec![b'x'; CHUNK]).unwrap();
    let Bench { cold, handle, site, .. } = start_with(root.path(), 0);
    let woken = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&woken);
    let wake: Wake = Arc::new(move || {
        count.fetch_add(1, Ordering::Relaxed);
    });
    const WAITERS: usize = 1000;
    let asked: Vec<_> = (0..WAITERS).map(|_| handle.load(&site, b"file", None, &wake)).collect();
    for reply in asked {
        assert!(matches!(block_on(answer(reply)), Ok(Loaded::Entry(_))));
    }
    drop(cold);
    assert_eq!(woken.load(Ordering::Relaxed), WAITERS);
}

#[test]
fn a_foreign_file_system_is_looked_at_aside() {
    let root = TempDir::new().unwrap();
    fs::create_dir(root.path().join("dir")).unwrap();
    fs::write(root.path().join("dir/index.html"), "x").unwrap();
    fs::write(root.path().join("big"), vec![7; CHUNK + 1]).unwrap();
    let mut site = Site::open(SiteSettings::new(root.path().to_owned())).unwrap();
    site.root.make_foreign();
    let bench = Bench { site: Arc::new(site), ..start(root.path()) };
    let Answer::File(file) = &load(&bench, "dir/").answer else { panic!("a file") };
    assert_eq!(file.body.as_deref(), Some(b"x".as_slice()));
    assert!(matches!(load(&bench, "dir").answer, Answer::Redirect(_)));
    assert_eq!(status(&bench, "none"), Some(Status::NotFound));
    let big = load(&bench, "big");
    let last = Span { start: CHUNK as u64, len: 1 };
    assert!(matches!(read(&bench, &big, last), Ok(Loaded::Part(octets)) if *octets == [7]));
}

#[test]
fn a_file_that_is_written_all_the_time_is_served_and_not_kept() {
    // One whose writer has paused is kept, as on a busy machine even this one's may.
    let deadline = Instant::now() + Duration::from_secs(60);
    while !written_all_the_time_it_is_not_kept() {
        assert!(Instant::now() < deadline, "the writer pauses all the time");
    }
}

/// False: the writer has paused, so that says nothing.
fn written_all_the_time_it_is_not_kept() -> bool {
    // Often enough that it never settles, and seldom enough that a load gets between.
    const PAUSE: Duration = Duration::from_millis(5);
    // With the kernel's tick of up to 10 ms still less than what is settled.
    const LONG_PAUSE: Duration = Duration::from_millis(SETTLED_AFTER.as_millis() as u64 / 2);
    let root = TempDir::new().unwrap();
    let mut log = fs::File::create(root.path().join("log")).unwrap();
    let (stop, stopped) = std::sync::mpsc::channel::<()>();
    let writer = std::thread::spawn(move || {
        let (mut last, mut longest) = (Instant::now(), Duration::ZERO);
        loop {
            let goes_on = stopped.recv_timeout(PAUSE) == Err(RecvTimeoutError::Timeout);
            longest = longest.max(last.elapsed());
            if !goes_on {
                return longest;
            }
            last = Instant::now();
            log.write_all(b"line\n").unwrap();
        }
    });
    let bench = start(root.path());
    let mut lens = vec![0];
    for at in 0..5 {
        // Else what is loaded may well be what was.
        while fs::metadata(root.path().join("log")).unwrap().len() <= lens[at] as u64 {
            std::thread::yield_now();
        }
        match &load(&bench, "log").answer {
            Answer::File(file) => lens.push(file.body.as_ref().unwrap().len()),
            other => panic!("{other:?}"),
        }
    }
    drop(stop);
    if writer.join().unwrap() > LONG_PAUSE {
        return false;
    }
    assert!(lens.iter().all(|len| len % 5 == 0), "{lens:?}");
    lens.dedup();
    assert_eq!(lens.len(), 6, "each time as it was then: {lens:?}");
    true
}

#[test]
fn chunks_of_a_large_file() {
    let root = TempDir::new().unwrap();
    let content: Vec<u8> = (0..2 * CHUNK + 5).map(|at| (at % 251) as u8).collect();
    fs::write(root.path().join("big"), &content).unwrap();
    let cold = start(root.path());
    let entry = load(&cold, "big");
    let Answer::File(file) = &entry.answer else { panic!("a file") };
    assert!(file.body.is_none());
    assert_eq!(file.chunks(), 3);
    let chunk = |index| read(&cold, &entry, Span::chunk(file.id.len, index));
    for (index, expected) in content.chunks(CHUNK).enumerate() {
        match chunk(index as u32) {
            Ok(Loaded::Part(octets)) => assert!(octets == expected),
            other => panic!("{other:?}"),
        }
    }
    // Less than a chunk, across the border of two.
    let span = Span { start: CHUNK as u64 - 100, len: 200 };
    let part = read(&cold, &entry, span);
    assert!(
        matches!(part, Ok(Loaded::Part(octets)) if octets == content[CHUNK - 100..CHUNK + 100])
    );
    // Cached ones stay true to their identity; one that was not read is not made up.
    fs::write(root.path().join("big"), &content[..CHUNK]).unwrap();
    assert!(matches!(chunk(0), Ok(Loaded::Part(_))));
    let gone = load(&cold, "none");
    assert!(matches!(gone.answer, Answer::Refused(Status::NotFound)));
}

#[test]
fn a_changed_file_has_no_more_chunks() {
    let root = TempDir::new().unwrap();
    fs::write(root.path().join("big"), vec![1; 2 * CHUNK]).unwrap();
    let cold = start_with(root.path(), 0);
    let entry = load(&cold, "big");
    fs::write(root.path().join("big"), vec![2; 2 * CHUNK + 1]).unwrap();
    let chunk = read(&cold, &entry, Span::chunk(2 * CHUNK as u64, 1));
    assert!(matches!(chunk, Err(LoadError::Changed)), "{chunk:?}");
}

#[test]
fn a_link_explains_one_change_and_no_later_one() {
    let dir = TempDir::new().unwrap();
    let (root, path) = (dir.path().join("www"), dir.path().join("www/big"));
    fs::create_dir(&root).unwrap();
    fs::write(&path, vec![1; 2 * CHUNK]).unwrap();
    let cold = start_with(&root, 0);
    let entry = load(&cold, "big");
    let chunk = |index| read(&cold, &entry, Span::chunk(2 * CHUNK as u64, index));
    assert!(chunk(0).is_ok());
    fs::hard_link(&path, dir.path().join("backup")).unwrap();
    assert!(chunk(1).is_ok(), "the same octets under another name");
    // Past the tick of the kernel's clock in which that was seen.
    std::thread::sleep(SETTLED_AFTER);
    let file = fs::File::options().write(true).open(&path).unwrap();
    let before = file.metadata().unwrap().modified().unwrap();
    (&file).write_all(&[2]).unwrap();
    file.set_modified(before).unwrap();
    for index in 0..2 {
        assert_eq!(chunk(index).err(), Some(LoadError::Changed), "{index}");
    }
}

#[test]
fn commands_after_the_end_are_not_taken() {
    let root = TempDir::new().unwrap();
    let Bench { cold, handle, site, .. } = start(root.path());
    cold.stop();
    let wake: Wake = Arc::new(|| {});
    assert!(matches!(
        block_on(answer(handle.load(&site, b"x", None, &wake))),
        Err(LoadError::Overloaded)
    ));
}

#[test]
fn a_bad_root_is_one_clear_line() {
    let dir = TempDir::new().unwrap();
    let missing = dir.path().join("none");
    let open = |path: &Path| Site::open(SiteSettings::new(path.to_owned()));
    let error = open(&missing).unwrap_err().to_string();
    assert!(error.contains("none cannot be read") && error.contains("name another"), "{error}");
    assert!(!error.contains('\n'));
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    assert!(open(&file).is_err());
}

fn ask(path: &Path, line: &str) -> Value {
    let mut stream = UnixStream::connect(path).unwrap();
    stream.write_all(line.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert_eq!(answer.matches('\n').count(), 1);
    serde_json::from_str(&answer).unwrap()
}

#[test]
fn the_control_socket_tells_the_status() {
    let root = TempDir::new().unwrap();
    let path = root.path().join("control");
    // What a process that died has left.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    let config = ColdConfig { control: Some(Listener::bind(&path).unwrap()), ..config(1 << 20).1 };
    let cold = ColdSide::start(config).unwrap();
    assert_eq!(path.metadata().unwrap().mode() & 0o777, 0o600);
    let status = ask(&path, "status\n");
    assert_eq!(status["connections"], 7);
    assert_eq!(status["cache"]["capacity"], 1 << 20);
    assert_eq!(status["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(ask(&path, "reload\n")["error"], "line 7: nonsense");
    assert!(ask(&path, "reboot\n")["error"].is_string());
    let second = Listener::bind(&path).err().unwrap().to_string();
    assert!(second.contains("another process listens there"), "{second}");
    assert_eq!(ask(&path, "status\n")["connections"], 7, "the first one is unharmed");
    cold.stop();
    assert!(!path.exists());
    fs::write(&path, "precious").unwrap();
    assert!(Listener::bind(&path).is_err());
    assert_eq!(fs::read(&path).unwrap(), b"precious");
}

#[test]
fn a_scan_leaves_room_for_downloads() {
    let wake: Wake = Arc::new(|| {});
    let root = TempDir::new().unwrap();
    let site = site(root.path());
    let (commands, _queue) = mpsc::channel(COLD_QUEUE);
    let handle = ColdHandle { commands };
    let answer = Answer::Redirect("/".into());
    let entry = Arc::new(Entry::new(answer, Millis::default(), None));
    while handle.revalidate(&site, b"x", Arc::clone(&entry)).is_ok() {}
    assert!(handle.load(&site, b"x", None, &wake).is_some(), "hints go last");
    while handle.load(&site, b"x", None, &wake).is_some() {}
    let span = Span { start: 0, len: 1 };
    let asked = handle.read(&site, &entry, span, room(&Cache::new(0), 1), &wake);
    assert!(asked.is_some(), "downloads go first");
}

#[test]
fn clients_that_say_nothing_do_not_keep_the_others_waiting() {
    let root = TempDir::new().unwrap();
    let control = root.path().join("control");
    let listener = Listener::bind(&control).unwrap();
    let config = ColdConfig { control: Some(listener), ..config(0).1 };
    let _cold = ColdSide::start(config).unwrap();
    let _silent: Vec<_> = (0..8).map(|_| UnixStream::connect(&control).unwrap()).collect();
    let asked = std::time::Instant::now();
    let mut client = UnixStream::connect(&control).unwrap();
    client.write_all(b"status\n").unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    assert!(answer.contains("\"connections\":7"), "{answer}");
    assert!(asked.elapsed() < Duration::from_secs(2));
}

/// Stands for a disk that does not answer.
struct Stuck(std::sync::mpsc::Sender<()>);

impl Appliance for Stuck {
    fn status(&self, _: oneshot::Sender<Value>) {
        self.0.send(()).unwrap();
        std::thread::sleep(Duration::from_secs(60));
    }

    fn reload(&self, _: oneshot::Sender<Result<usize, String>>) {}

    fn lame_duck(&self, _: bool) -> Result<(), &'static str> {
        Ok(())
    }

    fn is_lame_duck(&self) -> bool {
        false
    }

    fn sites(&self) -> Arc<Sites> {
        unreachable!("nobody asks for them")
    }

    fn beat(&self) {}
}

#[test]
fn a_stuck_thread_does_not_stop_the_end() {
    let root = TempDir::new().unwrap();
    let control = root.path().join("control");
    let (stuck, reached) = std::sync::mpsc::channel();
    let appliance = Arc::new(Stuck(stuck));
    let listener = Listener::bind(&control).unwrap();
    let config = ColdConfig { control: Some(listener), appliance, ..config(0).1 };
    let cold = ColdSide::start(config).unwrap();
    UnixStream::connect(&control).unwrap().write_all(b"status\n").unwrap();
    reached.recv().unwrap();
    let asked = std::time::Instant::now();
    cold.stop();
    assert!(asked.elapsed() < 2 * STOP_TIME);
}
