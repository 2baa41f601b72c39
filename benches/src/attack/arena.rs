//! The lab of the attacks, its servers, and the client that is measured under them.

use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tagwire_lab::{Lab, LabProcess, Pod};

use super::flood::{Flood, Pace, Sent};
use super::frames::{ATTACKER_MAC, Attack, Forge};
use crate::BenchError;
use crate::contender::{Programs, SERVER_CPU};
use crate::load::{Wrk, WrkResult, port_range};

/// Names and octets of what is asked for.
pub const FILES: [(&str, usize); 3] = [("1k", 1 << 10), ("20m", 20_000_000), ("100m", 100 << 20)];
/// The way to other subnets, from which SYNs come.
const GATEWAY: &str = "192.168.123.254";
/// The client's connections.
const CONNECTIONS: u32 = 16;
/// A request that has no answer by then has failed.
const TIMEOUT: &str = "10s";
/// After a flood, for what is left of it in queues and timers.
const SETTLE: Duration = Duration::from_secs(1);
/// The generator's seed: all contenders meet the same frames.
const SEED: u64 = 3;
/// Receive-packet steering: the client's work on CPU 0, the servers' on CPU 1.
const CLIENT_CPUS: u64 = 1;
const SERVER_CPUS: u64 = 2;

/// Who serves; the index is that of the pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Server {
    /// We, as we are started without options but for addresses and gateway.
    Tagwire,
    /// nginx on the kernel's TCP.
    Kernel,
    /// We, to be started anew for a case of its own.
    Spare,
}

/// How the client connects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Load {
    /// Once, for all requests.
    KeepAlive,
    /// Anew for each request.
    NewConnections,
}

impl Load {
    /// Both.
    pub const ALL: [Self; 2] = [Self::KeepAlive, Self::NewConnections];

    /// As the table calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::KeepAlive => "keep-alive",
            Self::NewConnections => "new connections",
        }
    }
}

/// The lab and what runs in it.
#[derive(Debug)]
pub struct Arena {
    // Before the lab: they are ended first.
    servers: Vec<LabProcess>,
    programs: Programs,
    /// Whether the appliance takes IPv6 addresses.
    pub ipv6: bool,
    pinned: bool,
    /// The lab.
    pub lab: Lab,
}

impl Arena {
    /// Brings it up with Tagwire, and with nginx if it is wanted. `pinned` places each side on a CPU
    /// of its own.
    ///
    /// # Errors
    /// When the lab or a server does not start.
    pub fn open(tagwire: &Path, with_kernel: bool, pinned: bool) -> Result<Self, BenchError> {
        let help = Command::new(tagwire).args(["serve", "--help"]).output()?;
        let ipv6 = String::from_utf8_lossy(&help.stdout).contains("IPv6");
        let lab = Lab::builder().pods(3).ipv6().build()?;
        let mut programs = Programs::prepare(&lab, tagwire, None, &FILES)?;
        if pinned {
            lab.steer(CLIENT_CPUS, SERVER_CPUS)?;
            programs = programs.pinned(SERVER_CPU);
        }
        // New connections by the ten thousand a second.
        port_range(&lab, "1024 65535")?;
        let mut arena = Self { servers: Vec::new(), programs, ipv6, pinned, lab };
        // Who asks for the gateway is answered.
        let interface = arena.lab.client_interface();
        let address = ["address", "add", GATEWAY, "dev", interface];
        arena.lab.client().command("ip").args(address).stdout_string()?;
        let options = ["--gateway", GATEWAY];
        let ours =
            arena.programs.start_tagwire(&arena.lab, arena.pod(Server::Tagwire), &options)?;
        arena.servers.push(ours);
        if with_kernel {
            let pod = arena.pod(Server::Kernel);
            let nginx = arena.programs.start_nginx(&arena.lab, pod)?;
            // Its answers to SYNs go where ours do: to the station that has sent them, which is the
            // cheapest for the client.
            let mac = ATTACKER_MAC.map(|octet| format!("{octet:02x}")).join(":");
            let script = format!(
                "dev=$(ip -o -4 address show to {} | cut -d' ' -f2) && \
                 ip neigh add {GATEWAY} lladdr {mac} dev $dev && \
                 ip route add default via {GATEWAY}",
                pod.address()
            );
            pod.command("sh").args(["-ec", &script]).stdout_string()?;
            arena.servers.push(nginx);
        }
        Ok(arena)
    }

    /// Those who take turns.
    pub fn contenders(&self) -> &'static [Server] {
        &[Server::Tagwire, Server::Kernel][..self.servers.len()]
    }

    /// Where a server runs.
    pub fn pod(&self, server: Server) -> &Pod {
        self.lab.pod(server as usize)
    }

    /// The URL of a file.
    pub fn url(&self, server: Server, file: &str) -> String {
        format!("http://{}/{file}", self.pod(server).address())
    }

    /// Starts the appliance of a case of its own, for which all of 192.0.0.0/8 is on-link.
    ///
    /// # Errors
    /// When it does not start.
    pub fn start_spare(&self) -> Result<LabProcess, BenchError> {
        let pod = self.pod(Server::Spare);
        let (v4, v6) = (format!("{}/8", pod.address()), format!("{}/64", pod.address_v6()));
        let both = [v4.as_str(), v6.as_str()];
        self.programs.start_tagwire_at(
            &self.lab,
            pod,
            if self.ipv6 { &both } else { &both[..1] },
            &[],
        )
    }

    /// Lets the client ask for the small file for so long.
    ///
    /// # Errors
    /// When wrk itself fails.
    pub fn load(
        &self,
        server: Server,
        load: Load,
        time: Duration,
    ) -> Result<WrkResult, BenchError> {
        let mut options = vec!["--timeout", TIMEOUT];
        if load == Load::NewConnections {
            options.extend(["-H", "Connection: close"]);
        }
        let url = self.url(server, "1k");
        Wrk::new(&self.lab)?.run_as_it_comes(&url, CONNECTIONS, time, &options)
    }

    /// Begins a flood on a server.
    ///
    /// # Errors
    /// When it cannot be sent.
    pub fn flood(&self, server: Server, attack: Attack, pace: Pace) -> Result<Flood, BenchError> {
        let forge = Forge::new(&self.lab, self.pod(server), attack, SEED);
        Flood::start(&self.lab, forge, pace, self.pinned)
    }

    /// Stops a flood and waits until its traces are gone.
    ///
    /// # Errors
    /// When it could not be sent all along.
    pub fn calm(&self, flood: Flood) -> Result<Sent, BenchError> {
        let sent = flood.stop()?;
        thread::sleep(SETTLE);
        Ok(sent)
    }

    /// Fails if one of the servers has ended.
    ///
    /// # Errors
    /// With what it has said.
    pub fn check_alive(&mut self) -> Result<(), BenchError> {
        for server in &mut self.servers {
            if let Some(status) = server.wait_timeout(Duration::ZERO)? {
                return Err(format!("a server has ended: {status}: {}", server.log()).into());
            }
        }
        Ok(())
    }
}
