//! The test bed: a lab, a www-root in it, and the appliance in its pod.

use std::cell::Cell;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Output};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value;
use tagwire_lab::{APPLIANCE_ID, Lab, LabBuilder, LabCommand, LabProcess, Namespace};

/// The appliance's address, in the first pod.
pub(crate) const ADDRESS: Ipv4Addr = Ipv4Addr::new(192, 168, 123, 150);
/// Its IPv6 address.
pub(crate) const ADDRESS_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x123, 0, 0, 0, 0, 0, 0x150);
/// What `/` is.
pub(crate) const INDEX: &[u8] = b"<!doctype html>\n<title>Tagwire</title>\n";

/// How long a start may take. It takes milliseconds, with probes (`--acd strict`) eight seconds;
/// the machine may be busy.
const START: Duration = Duration::from_secs(20);
/// How long an end may take: the appliance drains for ten seconds at most.
const END: Duration = Duration::from_secs(13);

/// Taken by tests that fill both cores, or would notice if another did.
pub(crate) fn alone() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

thread_local! {
    static OVER_IPV6: Cell<bool> = const { Cell::new(false) };
}

/// Runs a test once more, with beds whose clients use IPv6.
pub(crate) fn over_ipv6(test: fn()) {
    OVER_IPV6.set(true);
    test();
}

/// A lab with a www-root that has an `index.html`; the appliance once it is started.
pub(crate) struct Bed {
    appliance: Option<LabProcess>,
    /// Kind of the file system that its www-root is on, if it has one of its own.
    file_system: Option<&'static str>,
    ipv6: bool,
    program: PathBuf,
    lab: Lab,
}

impl Bed {
    /// The usual lab, with the appliance running; `None` where there can be no lab.
    pub(crate) fn up() -> Option<Self> {
        let mut bed = Self::down(Lab::builder())?;
        bed.start(&[]);
        Some(bed)
    }

    /// A lab without the appliance; `None` where there can be no lab.
    pub(crate) fn down(builder: LabBuilder) -> Option<Self> {
        if let Err(why) = tagwire_lab::available() {
            // libtest names the thread of a test after it. One write that
            // begins a line of its own, whatever libtest has just printed half of.
            let thread = std::thread::current();
            let test = thread.name().unwrap_or("a test");
            let line = format!("\nSKIPPED (needs root): {test}: {why}\n");
            eprint!("{line}");
            return None;
        }
        tagwire_lab::require_tools(&["curl", "ping"]).unwrap();
        let ipv6 = OVER_IPV6.get();
        let lab = if ipv6 { builder.ipv6() } else { builder }.build().unwrap();
        let built = std::env::var_os("TAGWIRE_BINARY")
            .unwrap_or_else(|| env!("CARGO_BIN_EXE_tagwire").into());
        let program = lab.publish(Path::new(&built)).unwrap();
        let bed = Self { appliance: None, file_system: None, ipv6, program, lab };
        // The appliance makes its control socket here.
        fs::create_dir(bed.lab.scratch().join("run")).unwrap();
        chown(bed.lab.scratch().join("run"), Some(APPLIANCE_ID), Some(APPLIANCE_ID)).unwrap();
        fs::create_dir(bed.www()).unwrap();
        bed.put("index.html", INDEX);
        Some(bed)
    }

    pub(crate) fn lab(&self) -> &Lab {
        &self.lab
    }

    /// The appliance's address, as clients of this bed use it.
    pub(crate) fn host(&self) -> &'static str {
        if self.ipv6 { "fd00:123::150" } else { "192.168.123.150" }
    }

    /// Where the appliance serves them.
    pub(crate) fn server(&self) -> SocketAddr {
        let address: IpAddr = if self.ipv6 { ADDRESS_V6.into() } else { ADDRESS.into() };
        SocketAddr::new(address, 80)
    }

    /// The URL of a path.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.server())
    }

    /// Octets of IP header and ICMP header before an echo's.
    pub(crate) fn echo_headers(&self) -> usize {
        if self.ipv6 { 48 } else { 28 }
    }

    /// The folder whose files are served, as this process sees it.
    pub(crate) fn www(&self) -> PathBuf {
        let www = self.lab.scratch().join("www");
        match (&self.file_system, &self.appliance) {
            (Some(_), Some(_)) => {
                let root = format!("/proc/{}/root", self.pid());
                Path::new(&root).join(www.strip_prefix("/").unwrap())
            }
            _ => www,
        }
    }

    /// The next start gives the appliance a www-root on an empty file system of this kind.
    pub(crate) fn serve_from(&mut self, file_system: &'static str) {
        self.file_system = Some(file_system);
    }

    /// Writes a file of www-root, and the folders that it is in.
    pub(crate) fn put(&self, name: &str, content: &[u8]) {
        let path = self.www().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    /// Starts the appliance as the README does, with `more` behind, and waits until it is ready.
    pub(crate) fn start(&mut self, more: &[&str]) {
        let addresses = ["192.168.123.150/24", "fd00:123::150/64"];
        self.start_at(&addresses[..if self.ipv6 { 2 } else { 1 }], more);
    }

    /// The same with addresses of its own.
    pub(crate) fn start_at(&mut self, addresses: &[&str], more: &[&str]) {
        let command = self.serve(addresses).args(more);
        self.start_with(command);
    }

    /// The appliance as the README starts it.
    pub(crate) fn serve(&self, addresses: &[&str]) -> LabCommand {
        self.command(&["serve", "--interface", "macvlan0", "--vlan"])
            .arg(self.vlan())
            .args(addresses.iter().flat_map(|address| ["--address", address]))
            .arg("--www-root")
            .arg(self.www())
            .arg("--control")
            .arg(self.control())
    }

    /// The lab's VLAN as `--vlan` takes it.
    fn vlan(&self) -> String {
        let inner = self.lab.vlan().unwrap_or(0);
        self.lab.outer_vlan().map_or(inner.to_string(), |outer| format!("{outer}.{inner}"))
    }

    /// Starts a command that becomes the appliance.
    pub(crate) fn start_with(&mut self, command: LabCommand) {
        self.begin_with(command);
        self.becomes_ready();
    }

    /// The same without waiting until it is ready.
    pub(crate) fn begin_with(&mut self, mut command: LabCommand) {
        assert!(self.appliance.is_none(), "one at a time");
        if let Some(kind) = self.file_system {
            command = command.mount(kind, self.www());
        }
        self.appliance = Some(command.capture().spawn().unwrap());
    }

    pub(crate) fn becomes_ready(&mut self) {
        self.appliance().wait_for_line("ready", START).unwrap();
    }

    /// The program in its pod, as the appliance's user.
    pub(crate) fn command(&self, args: &[&str]) -> LabCommand {
        self.lab.pod(0).command_as_appliance(&self.program).args(args)
    }

    pub(crate) fn program(&self) -> &Path {
        &self.program
    }

    pub(crate) fn control(&self) -> PathBuf {
        self.lab.scratch().join("run/control")
    }

    pub(crate) fn appliance(&mut self) -> &mut LabProcess {
        self.appliance.as_mut().expect("it was started")
    }

    /// Sends the appliance a signal.
    pub(crate) fn signal(&self, signal: tagwire_lab::Signal) {
        self.appliance.as_ref().expect("it was started").signal(signal).unwrap();
    }

    /// Ends the appliance by SIGTERM; it must end well.
    pub(crate) fn stop(&mut self) {
        self.appliance().signal(tagwire_lab::Signal::TERM).unwrap();
        self.ends_well();
    }

    /// Waits for its end, which is without error and without panic.
    pub(crate) fn ends_well(&mut self) {
        let status = self.appliance().wait_timeout(END).unwrap();
        let log = self.appliance().log();
        assert_eq!(status.and_then(|status| status.code()), Some(0), "{status:?}:\n{log}");
        assert!(!log.contains("panic"), "{log}");
        self.appliance = None;
    }

    /// It has ended, as was expected.
    pub(crate) fn forget(&mut self) {
        self.appliance = None;
    }

    /// The end of a test: what is still up ends well.
    pub(crate) fn finish(mut self) {
        if self.appliance.is_some() {
            self.stop();
        }
    }

    /// What `tagwire status --json` says.
    pub(crate) fn status(&self) -> Value {
        let control = self.control();
        let text =
            self.command(&["status", "--json", "--control"]).arg(control).stdout_string().unwrap();
        serde_json::from_str(&text).unwrap()
    }

    /// A counter of the stack.
    pub(crate) fn counted(&self, counter: &str) -> u64 {
        self.figure("stack", counter)
    }

    /// A figure of a part of the status.
    pub(crate) fn figure(&self, part: &str, name: &str) -> u64 {
        let status = self.status();
        status[part][name].as_u64().unwrap_or_else(|| panic!("no {part}.{name} in {status}"))
    }

    /// Writes the configuration file; where it is.
    pub(crate) fn configure(&self, text: &str) -> String {
        let path = self.lab.scratch().join("tagwire.toml");
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// The same where VLANs or sites are in the file, and so nothing on the command line: what
    /// [`start`](Self::start) says of the rest comes before `text`.
    pub(crate) fn configure_all(&self, text: &str) -> String {
        let (www, control) = (self.www(), self.control());
        let root = if text.contains("www-root") {
            String::new()
        } else {
            format!("www-root = \"{}\"\n", www.display())
        };
        let control = control.display();
        self.configure(&format!(
            "[serve]\ninterface = \"macvlan0\"\ncontrol = \"{control}\"\n{root}{text}"
        ))
    }

    /// A field of /proc/PID/status in KiB.
    pub(crate) fn memory(&self, field: &str) -> u64 {
        let path = format!("/proc/{}/status", self.pid());
        let status = fs::read_to_string(path).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
        let words = line.unwrap_or_else(|| panic!("no {field} in {status}"));
        words.split_whitespace().next().unwrap().parse().unwrap()
    }

    /// The CPU time that it has used, in all threads.
    pub(crate) fn cpu_time(&self) -> Duration {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid())).unwrap();
        // The second field is the name, which may have spaces; user and system time are the
        // 14th and 15th.
        let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
        let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
        Duration::from_secs_f64(ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
    }

    fn pid(&self) -> u32 {
        self.appliance.as_ref().and_then(LabProcess::pid).expect("it runs")
    }

    /// Runs a program in the client's namespace and returns what it printed.
    pub(crate) fn client(&self, line: &[&str]) -> Output {
        self.lab.client().command(line[0]).args(&line[1..]).output().unwrap()
    }

    /// Runs a program in the client's namespace, which must succeed.
    pub(crate) fn client_ok(&self, line: &[&str]) -> String {
        self.lab.client().command(line[0]).args(&line[1..]).stdout_string().unwrap()
    }

    /// Pings from the client, see [`ping`].
    pub(crate) fn ping(&self, count: u32, more: &[&str]) {
        ping(self.lab.client(), self.host(), count, more);
    }

    /// Sets a sysctl of the client's kernel, `ipv4/tcp_sack` say.
    pub(crate) fn client_sysctl(&self, key: &str, value: &str) {
        self.client_ok(&["sh", "-c", &format!("echo '{value}' > /proc/sys/net/{key}")]);
    }

    /// The first page by curl: the appliance serves.
    pub(crate) fn assert_serves(&self) {
        let page = self.client(&["curl", "-gsS", "-m", "5", &self.url("/")]);
        assert!(page.status.success() && page.stdout == INDEX, "{}", said(&page));
    }

    /// Runs a command of the pod, `ip link set macvlan0 down` say, as root.
    pub(crate) fn pod_ok(&self, line: &[&str]) {
        let status: ExitStatus =
            self.lab.pod(0).command(line[0]).args(&line[1..]).status().unwrap();
        assert!(status.success(), "{line:?}: {status}");
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        if std::thread::panicking()
            && let Some(appliance) = &self.appliance
        {
            let status = self.command(&["status", "--control"]).arg(self.control()).output();
            let status = status.as_ref().map_or_else(ToString::to_string, said);
            eprintln!("the appliance said:\n{}and is:\n{status}", appliance.log());
        }
    }
}

/// Pings with more options until so many echoes have come back, each once and as it was sent.
pub(crate) fn ping(place: &Namespace, host: &str, count: u32, more: &[&str]) {
    let count = count.to_string();
    // Without a deadline ping waits for the last one no longer than twice what the others took,
    // which on a busy machine is too short.
    let args = ["-c", &count, "-i0.01", "-w20"];
    let said = place.command("ping").args(args).args(more).arg(host).stdout_string().unwrap();
    assert!(!said.contains("wrong data") && !said.contains("DUP"), "{said}");
}

/// What a program printed, for a message.
pub(crate) fn said(output: &Output) -> String {
    let (out, err) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    format!("{}\n{out}{err}", output.status)
}

/// Waits until a condition holds, or fails with what was waited for.
pub(crate) fn wait_until(what: &str, limit: Duration, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + limit;
    while !holds() {
        assert!(Instant::now() < deadline, "{what}: not within {limit:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Octets that repeat nowhere within a file, so that a piece in the wrong place shows.
pub(crate) fn content(seed: u64, len: usize) -> Vec<u8> {
    let mut octets = Vec::with_capacity(len + 8);
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    while octets.len() < len {
        // Marsaglia's xorshift64.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        octets.extend_from_slice(&state.to_le_bytes());
    }
    octets.truncate(len);
    octets
}
