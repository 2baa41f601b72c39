//! The demonstration: the appliance in a lab, from the first ping to its end.
//!
//! Each step prints its command and what that says, and fails the whole if it is not
//! what it should be.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tagwire_lab::{
    APPLIANCE_ID, Lab, LabBuilder, LabCommand, LabError, LabProcess, LabResult, POD_INTERFACE,
    require_tools,
};

/// What the demonstration downloads at last.
const LARGE: u64 = 256 << 20;

const INDEX: &str = "<!doctype html>\n<title>Tagwire</title>\n<h1>Behind the tag</h1>\n";

const START_LIMIT: Duration = Duration::from_secs(10);
const END_LIMIT: Duration = Duration::from_secs(10);

/// Runs the demonstration of the appliance `binary`; with `stay` it leaves lab and
/// appliance up afterwards, until a signal ends the process.
pub(crate) fn run(builder: LabBuilder, binary: &Path, stay: bool) -> LabResult<()> {
    require_tools(&["ping", "curl", "sha256sum", "grep"])?;
    if !binary.is_file() {
        return Err(LabError::new(
            format!("no appliance to show at {}", binary.display()),
            "there is no such file",
            "build it: cargo build --release -p tagwire",
        ));
    }
    heading("The lab: a client, a VLAN, a node, and a pod on the node's macvlan");
    let demo = Demo::new(builder.build()?, binary)?;
    demo.show_topology()?;

    heading("The appliance, as uid 10000, with CAP_NET_RAW and nothing else");
    let mut appliance = demo.start()?;

    heading("The first ping: answered, though nobody has resolved an address yet");
    demo.first_ping()?;
    heading("The first page");
    demo.first_page()?;
    heading("A large download");
    demo.large_download()?;
    heading("What the appliance says of itself");
    demo.status(&appliance)?;

    if stay {
        demo.invite();
        super::to_be_ended(true);
        let status = appliance.wait()?;
        super::to_be_ended(false);
        return Err(LabError::new(
            "the appliance has ended",
            format!("{status}; it said:\n{}", appliance.log()),
            "see what it says",
        ));
    }
    heading("The end, by SIGTERM");
    stop(&mut appliance)?;
    println!("\nEverything was as it should be.");
    Ok(())
}

fn heading(text: &str) {
    println!("\n== {text}");
}

/// The lab, and what was put into it.
struct Demo {
    lab: Lab,
    program: PathBuf,
    www_root: PathBuf,
    control: PathBuf,
}

impl Demo {
    fn new(lab: Lab, binary: &Path) -> LabResult<Self> {
        let program = lab.publish(binary)?;
        let www_root = lab.scratch().join("www");
        let run = lab.scratch().join("run");
        let prepare = || {
            make_www_root(&www_root)?;
            // The control socket is the appliance's own.
            fs::create_dir(&run)?;
            chown(&run, Some(APPLIANCE_ID), Some(APPLIANCE_ID))
        };
        prepare().map_err(|error: io::Error| {
            LabError::new(
                format!(
                    "cannot make the files of the demonstration in {}",
                    lab.scratch().display()
                ),
                error,
                "see that there are 600 MB of space for temporary files (TMPDIR)",
            )
        })?;
        Ok(Self { lab, program, www_root, control: run.join("control.sock") })
    }

    fn show_topology(&self) -> LabResult<()> {
        for namespace in [self.lab.client(), self.lab.node(), self.lab.pod(0).namespace()] {
            show(namespace.command("ip").args(["-brief", "address"]))?;
        }
        Ok(())
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.lab.pod(0).address())
    }

    fn start(&self) -> LabResult<LabProcess> {
        let pod = self.lab.pod(0);
        let mut command = pod
            .command_as_appliance(&self.program)
            .args(["serve", "--interface", POD_INTERFACE])
            .args(["--address", &format!("{}/24", pod.address())])
            .arg("--www-root")
            .arg(&self.www_root)
            .arg("--control")
            .arg(&self.control);
        if let Some(vlan) = self.lab.vlan() {
            command = command.args(["--vlan", &vlan.to_string()]);
        }
        println!("$ {command}");
        let mut appliance = command.capture_and_show().spawn()?;
        appliance.wait_for_line("ready", START_LIMIT)?;
        Ok(appliance)
    }

    fn first_ping(&self) -> LabResult<()> {
        let address = self.lab.pod(0).address().to_string();
        show(self.lab.client().command("ping").args(["-c1", "-W2", &address])).map(drop)
    }

    fn first_page(&self) -> LabResult<()> {
        let said = show(self.lab.client().command("curl").args(["-sSi", "-m5", &self.url("/")]))?;
        expect(
            said.starts_with("HTTP/1.1 200 ") && said.ends_with(INDEX),
            "the first page is not what it should be",
            "not status 200 with the content of index.html",
        )?;
        let url = self.url("/1k.bin");
        let copy = self.lab.scratch().join("1k.bin");
        self.download(&url, &copy)?;
        self.compare("1k.bin", &copy)
    }

    fn large_download(&self) -> LabResult<()> {
        let url = self.url("/large.bin");
        // Once for the speed, which a disk would limit, and once to look at it.
        let said = self.download(&url, Path::new("/dev/null"))?;
        let speed = said.split_whitespace().rev().nth(1).and_then(|word| word.parse::<f64>().ok());
        if let Some(speed) = speed {
            println!("  that is {:.2} Gbit/s", speed * 8.0 / 1e9);
        }
        let copy = self.lab.scratch().join("large.bin");
        self.download(&url, &copy)?;
        self.compare("large.bin", &copy)
    }

    fn download(&self, url: &str, copy: &Path) -> LabResult<String> {
        let said = r"status %{http_code}, %{size_download} octets in %{time_total} s, %{speed_download} octets/s\n";
        let curl = self.lab.client().command("curl");
        show(curl.args(["-sS", "--fail", "-m120", "-w", said, "-o"]).arg(copy).arg(url))
    }

    fn compare(&self, name: &str, copy: &Path) -> LabResult<()> {
        let original = self.www_root.join(name);
        let sums = show(self.lab.client().command("sha256sum").arg(original).arg(copy))?;
        let mut sums = sums.lines().filter_map(|line| line.split_whitespace().next());
        expect(
            sums.next() == sums.next(),
            &format!("{name} has arrived damaged"),
            "its SHA-256 is not that of the original",
        )
    }

    fn status(&self, appliance: &LabProcess) -> LabResult<()> {
        let pod = self.lab.pod(0);
        show(
            pod.command_as_appliance(&self.program)
                .args(["status", "--control"])
                .arg(&self.control),
        )?;
        if let Some(pid) = appliance.pid() {
            let status = format!("/proc/{pid}/status");
            show(pod.command("grep").args(["-E", "^(Uid|CapEff|VmRSS|Threads):", &status]))?;
        }
        Ok(())
    }

    fn invite(&self) {
        let client = self.lab.client();
        println!("\nLab and appliance stay up until Ctrl-C. Try, from another terminal:\n");
        for command in [
            client.command("ping").arg(self.lab.pod(0).address().to_string()),
            client.command("curl").args(["-i", &self.url("/")]),
            client.command("curl").args(["-o/dev/null", &self.url("/large.bin")]),
            client.command("tcpdump").args(["-eni", "eth0"]),
        ] {
            println!("  {command}");
        }
        println!("  {} status --control {}", self.program.display(), self.control.display());
        println!("\nIts www-root is {}", self.www_root.display());
    }
}

fn make_www_root(folder: &Path) -> io::Result<()> {
    fs::create_dir(folder)?;
    fs::write(folder.join("index.html"), INDEX)?;
    for (name, len) in [("1k.bin", 1024), ("large.bin", LARGE)] {
        let mut random = File::open("/dev/urandom")?.take(len);
        io::copy(&mut random, &mut File::create(folder.join(name))?)?;
    }
    // Whatever our umask is: the appliance is another user.
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755))?;
    for entry in fs::read_dir(folder)? {
        fs::set_permissions(entry?.path(), fs::Permissions::from_mode(0o644))?;
    }
    Ok(())
}

/// Prints a command, runs it, prints what it says; fails if it does.
fn show(command: LabCommand) -> LabResult<String> {
    println!("$ {command}");
    let said = command.stdout_string()?;
    for line in said.lines() {
        println!("  {line}");
    }
    Ok(said)
}

fn expect(condition: bool, what: &str, why: &str) -> LabResult<()> {
    if condition {
        return Ok(());
    }
    Err(LabError::new(what, why, "see what is printed above; `--stay` leaves the lab up to look"))
}

fn stop(appliance: &mut LabProcess) -> LabResult<()> {
    if let Some(pid) = appliance.pid() {
        println!("$ kill -TERM {pid}");
    }
    let status = appliance.terminate(END_LIMIT)?;
    println!("  {status}");
    expect(status.success(), "the appliance did not end well", &status.to_string())
}
