//! A lab: the namespaces, and what connects them.

use std::fs;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::error::{LabError, LabResult};
use crate::janitor::{self, Record};
use crate::namespace::Namespace;
use crate::process::{LabCommand, Spawner};
use crate::tools;
use crate::vlan::{Tagged, Vlans};
use crate::wire::{Wire, WireConfig};

/// The VLAN of the lab unless another is asked for.
pub const DEFAULT_VLAN: u16 = 123;

/// The client's address.
pub const CLIENT_ADDRESS: Ipv4Addr = Ipv4Addr::new(192, 168, 123, 1);

/// The client's IPv6 address, in labs with [`LabBuilder::ipv6`].
pub const CLIENT_ADDRESS_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x0123, 0, 0, 0, 0, 0, 1);

/// The interface in each pod.
pub const POD_INTERFACE: &str = "macvlan0";

/// The client's end of the cable, in `cli`.
pub const CLIENT_INTERFACE: &str = "eth0";
/// The MAC address of that. Fixed, as all are: two runs of a test see the same frames.
pub const CLIENT_MAC: [u8; 6] = [0x02, 0x74, 0x77, 0x00, 0x00, 0x01];

/// The node's end of it, in `node`.
const NODE_INTERFACE: &str = "nic0";

/// How many pods there may be: their addresses end in 150 and above.
const MAX_PODS: usize = 100;

/// What a lab is to be like. Begin with [`Lab::builder`].
#[derive(Debug, Clone)]
pub struct LabBuilder {
    vlan: Option<u16>,
    outer_vlan: Option<u16>,
    pods: usize,
    wire: Option<WireConfig>,
    ipv6: bool,
}

impl LabBuilder {
    /// Sets the VLAN, or none; without this call it is 123.
    #[must_use]
    pub fn vlan(mut self, vlan: impl Into<Option<u16>>) -> Self {
        self.vlan = vlan.into();
        self
    }

    /// A lab without VLAN tags.
    #[must_use]
    pub fn untagged(self) -> Self {
        self.vlan(None)
    }

    /// Puts an 802.1ad tag of this VLAN around the tag of [`Self::vlan`] (QinQ).
    #[must_use]
    pub fn outer_vlan(mut self, vlan: impl Into<Option<u16>>) -> Self {
        self.outer_vlan = vlan.into();
        self
    }

    /// Sets how many pods there are on the node; without this call, one.
    #[must_use]
    pub fn pods(mut self, pods: usize) -> Self {
        self.pods = pods;
        self
    }

    /// Puts a wire that can lose, delay and damage frames between client and node.
    #[must_use]
    pub fn wire(mut self, wire: WireConfig) -> Self {
        self.wire = Some(wire);
        self
    }

    /// A lab of both families: the client has [`CLIENT_ADDRESS_V6`] too, at once and
    /// without duplicate address detection, and [`Pod::kernel_stack`] gives a pod its
    /// address of either. What the kernels send on their own then are multicast listener
    /// reports: they solicit no router and heed none. Without this call no interface of
    /// the lab speaks IPv6, which keeps its chatter out of captures and counts.
    #[must_use]
    pub fn ipv6(mut self) -> Self {
        self.ipv6 = true;
        self
    }

    /// Brings the lab up, after removing those that dead processes left behind.
    ///
    /// # Errors
    ///
    /// When a lab cannot be had here ([`tools::available`]), or a step of it fails: what
    /// was made by then is removed.
    pub fn build(self) -> LabResult<Lab> {
        self.check()?;
        tools::available().map_err(|why| {
            LabError::new("no lab here", why, "run as root, with the tools that are named above")
        })?;
        janitor::clean()?;

        let _changing = janitor::changing();
        let mut roles = vec!["cli".to_owned(), "node".to_owned()];
        roles.extend((0..self.pods).map(|i| format!("pod{i}")));
        roles.extend(self.wire.is_some().then(|| "wire".to_owned()));
        let record = Record::new(unique_name(), roles)?;
        record.write()?;
        match Parts::make(&self, &record) {
            Ok(parts) => {
                let Self { vlan, outer_vlan, .. } = self;
                Ok(Lab { vlan, outer_vlan, record, parts: Some(parts) })
            }
            Err(error) => {
                // The first error is the one to tell; the next janitor tries again.
                let _ = record.remove();
                Err(error)
            }
        }
    }

    fn check(&self) -> LabResult<()> {
        let mut vlans = [self.vlan, self.outer_vlan].into_iter().flatten();
        if let Some(vlan) = vlans.find(|vlan| !(1..=4094).contains(vlan)) {
            return Err(LabError::new(
                format!("no lab with VLAN {vlan}"),
                "a VLAN ID is 1 to 4094",
                "name one of those, or ask for an untagged lab",
            ));
        }
        if self.vlan.is_none() && self.outer_vlan.is_some() {
            return Err(LabError::new(
                "no lab with an outer tag only",
                "an 802.1ad tag goes around an 802.1Q one",
                "name the inner VLAN too",
            ));
        }
        if !(1..=MAX_PODS).contains(&self.pods) {
            return Err(LabError::new(
                format!("no lab with {} pods", self.pods),
                format!("there may be 1 to {MAX_PODS}"),
                "ask for that many",
            ));
        }
        Ok(())
    }
}

fn unique_name() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("tw{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// A client, a node and its pods, until this is dropped. See the crate's documentation.
#[derive(Debug)]
pub struct Lab {
    vlan: Option<u16>,
    outer_vlan: Option<u16>,
    record: Record,
    /// `None` only while it is dropped.
    parts: Option<Parts>,
}

/// What a lab is made of; dropped before the namespaces are removed.
#[derive(Debug)]
struct Parts {
    client: Namespace,
    client_interface: String,
    _client_tag: Option<Tagged>,
    node: Namespace,
    pods: Vec<Pod>,
    wire: Option<Wire>,
}

impl Parts {
    fn make(plan: &LabBuilder, record: &Record) -> LabResult<Self> {
        make_scratch(&record.scratch)?;
        let spawner = Spawner::start()?;
        let create = |role: &str| {
            let namespace = Namespace::create(record.namespace(role), spawner.clone())?;
            // Before there is any interface: each new one takes the default.
            namespace.sysctl("ipv6/conf/all/disable_ipv6", "1")?;
            namespace.sysctl("ipv6/conf/default/disable_ipv6", "1")?;
            namespace.ip("link set lo up\n")?;
            Ok(namespace)
        };
        let client = create("cli")?;
        let node = create("node")?;
        let wire = match &plan.wire {
            None => {
                connect(&client, CLIENT_INTERFACE, &node, NODE_INTERFACE)?;
                None
            }
            Some(config) => Some(Wire::lay(
                create("wire")?,
                (&client, CLIENT_INTERFACE),
                (&node, NODE_INTERFACE),
                config,
            )?),
        };
        let mac = mac_text(CLIENT_MAC);
        client.ip(&format!("link set {CLIENT_INTERFACE} address {mac} up\n"))?;
        node.ip(&format!("link set {NODE_INTERFACE} address 02:74:77:00:00:02 up\n"))?;

        let vlans = plan.vlan.map(|inner| Vlans { outer: plan.outer_vlan, inner });
        let pods = (0..plan.pods)
            .map(|i| Pod::make(i, create(&format!("pod{i}"))?, &node, vlans, plan.ipv6))
            .collect::<LabResult<Vec<Pod>>>()?;

        let client_tag =
            vlans.map(|vlans| Tagged::new(&client, CLIENT_INTERFACE, vlans)).transpose()?;
        let client_interface = client_tag
            .as_ref()
            .map_or_else(|| CLIENT_INTERFACE.to_owned(), |tagged| tagged.interface.clone());
        client.ip(&format!("address add {CLIENT_ADDRESS}/24 dev {client_interface}\n"))?;
        if plan.ipv6 {
            speak_ipv6(&client, &client_interface, CLIENT_ADDRESS_V6)?;
        }
        Ok(Self { client, client_interface, _client_tag: client_tag, node, pods, wire })
    }
}

/// Connects two namespaces by a veth pair.
pub(crate) fn connect(
    left: &Namespace,
    left_interface: &str,
    right: &Namespace,
    right_interface: &str,
) -> LabResult<()> {
    left.ip(&format!(
        "link add name {left_interface} type veth peer name {right_interface} netns {}\n\
         link set {left_interface} up\n",
        right.name()
    ))?;
    right.ip(&format!("link set {right_interface} up\n"))
}

fn mac_text(mac: [u8; 6]) -> String {
    mac.map(|octet| format!("{octet:02x}")).join(":")
}

/// Gives an interface an IPv6 address that can be used at once, and keeps its kernel from
/// soliciting routers and configuring itself.
fn speak_ipv6(namespace: &Namespace, interface: &str, address: Ipv6Addr) -> LabResult<()> {
    for (key, value) in [
        ("accept_ra", "0"),
        ("autoconf", "0"),
        ("router_solicitations", "0"),
        // For the link-local address, which would be tentative for a second otherwise.
        ("accept_dad", "0"),
        ("dad_transmits", "0"),
        // Last: with it the link-local address comes.
        ("disable_ipv6", "0"),
    ] {
        namespace.sysctl(&format!("ipv6/conf/{interface}/{key}"), value)?;
    }
    namespace.ip(&format!("address add {address}/64 dev {interface} nodad\n"))
}

/// A folder that every user may read: the appliance is another user.
fn make_scratch(folder: &Path) -> LabResult<()> {
    fs::create_dir(folder)
        .and_then(|()| fs::set_permissions(folder, fs::Permissions::from_mode(0o755)))
        .map_err(|error| {
            LabError::new(
                format!("cannot make the lab's folder {}", folder.display()),
                error,
                "see that the folder for temporary files (TMPDIR) is writable",
            )
        })
}

impl Lab {
    /// A lab to be: VLAN 123 and one pod, unless told otherwise.
    pub fn builder() -> LabBuilder {
        LabBuilder { vlan: Some(DEFAULT_VLAN), outer_vlan: None, pods: 1, wire: None, ipv6: false }
    }

    /// Brings up a lab with VLAN 123 and one pod.
    ///
    /// # Errors
    ///
    /// As [`LabBuilder::build`].
    pub fn up() -> LabResult<Self> {
        Self::builder().build()
    }

    fn parts(&self) -> &Parts {
        self.parts.as_ref().expect("a lab has its parts until it is dropped")
    }

    /// Its name: how the names of its namespaces begin.
    pub fn name(&self) -> &str {
        &self.record.name
    }

    /// Its VLAN, if it has one.
    pub fn vlan(&self) -> Option<u16> {
        self.vlan
    }

    /// The VLAN of the 802.1ad tag around the other, if it has one.
    pub fn outer_vlan(&self) -> Option<u16> {
        self.outer_vlan
    }

    /// The client's namespace: the kernel's own IP stack, behind the VLAN.
    pub fn client(&self) -> &Namespace {
        &self.parts().client
    }

    /// The client's interface with the address: eth0, or eth0.123 where the kernel has
    /// VLAN devices.
    pub fn client_interface(&self) -> &str {
        &self.parts().client_interface
    }

    /// The node's namespace, with `nic0` that the pods' macvlans are on.
    pub fn node(&self) -> &Namespace {
        &self.parts().node
    }

    /// A pod, counted from 0.
    ///
    /// # Panics
    ///
    /// When there are not so many.
    pub fn pod(&self, index: usize) -> &Pod {
        &self.parts().pods[index]
    }

    /// All pods.
    pub fn pods(&self) -> &[Pod] {
        &self.parts().pods
    }

    /// The wire, if the lab was built with one.
    pub fn wire(&self) -> Option<&Wire> {
        self.parts().wire.as_ref()
    }

    /// Steers the receive work of the client and of the node each to their own CPUs, so
    /// that a core's busy time is that of one side (receive-packet steering).
    ///
    /// # Errors
    ///
    /// When the kernel refuses the mask, as for CPUs that are not there.
    pub fn steer(&self, client_cpus: u64, server_cpus: u64) -> LabResult<()> {
        self.client().steer(CLIENT_INTERFACE, client_cpus)?;
        self.node().steer(NODE_INTERFACE, server_cpus)
    }

    /// A folder for files that go with the lab. Every user may read it.
    pub fn scratch(&self) -> &Path {
        &self.record.scratch
    }

    /// Copies a program to where the appliance's user can run it (a build folder below
    /// /root is not such a place), and returns the path of the copy.
    ///
    /// # Errors
    ///
    /// When it cannot be read or copied.
    pub fn publish(&self, program: &Path) -> LabResult<PathBuf> {
        let name = program.file_name().unwrap_or(program.as_os_str());
        let copy = self.scratch().join("bin").join(name);
        fs::create_dir_all(self.scratch().join("bin"))
            .and_then(|()| copy_by_another(program, &copy))
            .and_then(|()| fs::set_permissions(&copy, fs::Permissions::from_mode(0o755)))
            .map_err(|error| {
                LabError::new(
                    format!("cannot copy {} into the lab", program.display()),
                    error,
                    "see that it is built and that there is space for temporary files",
                )
            })?;
        Ok(copy)
    }
}

/// Copies a program by a process of its own. Were this one to write it, then another thread that starts
/// a process meanwhile would leave the open file to its child for a moment, in which the kernel
/// does not execute it (ETXTBSY).
fn copy_by_another(program: &Path, copy: &Path) -> io::Result<()> {
    let status = Command::new("cp").arg("--").args([program, copy]).status()?;
    if status.success() { Ok(()) } else { Err(io::Error::other(format!("cp: {status}"))) }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let _changing = janitor::changing();
        // First the wire's thread and the tags, while their interfaces are there.
        drop(self.parts.take());
        if let Err(error) = self.record.remove() {
            eprintln!("{error}");
        }
    }
}

/// A pod of the lab: a namespace with nothing in it but [`POD_INTERFACE`]. The kernel
/// has no address there, so that it answers nothing.
#[derive(Debug)]
pub struct Pod {
    namespace: Namespace,
    vlans: Option<Vlans>,
    ipv6: bool,
    address: Ipv4Addr,
    address_v6: Ipv6Addr,
    mac: [u8; 6],
    tag: Mutex<Option<Tagged>>,
}

impl Pod {
    fn make(
        index: usize,
        namespace: Namespace,
        node: &Namespace,
        vlans: Option<Vlans>,
        ipv6: bool,
    ) -> LabResult<Self> {
        let number = index as u8; // below MAX_PODS
        let mac = [0x02, 0x74, 0x77, 0x00, 0x01, number];
        node.ip(&format!(
            "link add link {NODE_INTERFACE} netns {} name {POD_INTERFACE} type macvlan mode bridge\n",
            namespace.name()
        ))?;
        let text = mac_text(mac);
        namespace.ip(&format!("link set {POD_INTERFACE} address {text} up\n"))?;
        let address = Ipv4Addr::new(192, 168, 123, 150 + number);
        // The hexadecimal digits read as the decimal ones of the other address.
        let last = u16::from_str_radix(&address.octets()[3].to_string(), 16).unwrap_or(0);
        let address_v6 = Ipv6Addr::new(0xfd00, 0x0123, 0, 0, 0, 0, 0, last);
        Ok(Self { namespace, vlans, ipv6, address, address_v6, mac, tag: Mutex::new(None) })
    }

    /// Its namespace.
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// The address that is meant for what runs in it: 192.168.123.150 in the first pod,
    /// .151 in the second. The kernel does not have it, see [`Self::kernel_stack`].
    pub fn address(&self) -> Ipv4Addr {
        self.address
    }

    /// The IPv6 address that is meant for what runs in it: fd00:123::150 in the first pod,
    /// ::151 in the second.
    pub fn address_v6(&self) -> Ipv6Addr {
        self.address_v6
    }

    /// The MAC address of its interface.
    pub fn mac(&self) -> [u8; 6] {
        self.mac
    }

    /// See [`Namespace::command`].
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> LabCommand {
        self.namespace.command(program)
    }

    /// See [`Namespace::command_as_appliance`].
    pub fn command_as_appliance(&self, program: impl AsRef<std::ffi::OsStr>) -> LabCommand {
        self.namespace.command_as_appliance(program)
    }

    /// Makes this a pod whose kernel speaks: it gets the lab's VLAN tag on its interface
    /// and this pod's address (in labs with [`LabBuilder::ipv6`], of either family), for a server that listens on kernel sockets.
    ///
    /// # Errors
    ///
    /// When it has a kernel stack already, or a step fails.
    pub fn kernel_stack(&self) -> LabResult<()> {
        self.speak(self.vlans, self.address, self.address_v6)
    }

    /// The same in a VLAN of its own, or without a tag, and with addresses of its own: a client
    /// beside the lab's, in another network.
    ///
    /// # Errors
    ///
    /// As [`Self::kernel_stack`].
    pub fn kernel_stack_in(
        &self,
        vlan: Option<u16>,
        outer_vlan: Option<u16>,
        address: Ipv4Addr,
        address_v6: Ipv6Addr,
    ) -> LabResult<()> {
        self.speak(vlan.map(|inner| Vlans { outer: outer_vlan, inner }), address, address_v6)
    }

    fn speak(
        &self,
        vlans: Option<Vlans>,
        address: Ipv4Addr,
        address_v6: Ipv6Addr,
    ) -> LabResult<()> {
        let tagged =
            vlans.map(|vlans| Tagged::new(&self.namespace, POD_INTERFACE, vlans)).transpose()?;
        let interface = tagged.as_ref().map_or(POD_INTERFACE, |tagged| &tagged.interface);
        self.namespace.ip(&format!("address add {address}/24 dev {interface}\n"))?;
        if self.ipv6 {
            speak_ipv6(&self.namespace, interface, address_v6)?;
        }
        *self.tag.lock().unwrap_or_else(PoisonError::into_inner) = tagged;
        Ok(())
    }

    /// Sets the congestion control of what the kernel serves from this pod to the client,
    /// by a metric of the route there: in a namespace that is not the machine's first, the
    /// sysctl takes but a few. [`Self::kernel_stack`] comes before.
    ///
    /// # Errors
    ///
    /// When the kernel has no such congestion control, or the pod no kernel stack.
    pub fn congestion_control(&self, name: &str) -> LabResult<()> {
        let tag = self.tag.lock().unwrap_or_else(PoisonError::into_inner);
        let interface = tag.as_ref().map_or(POD_INTERFACE, |tagged| &tagged.interface);
        self.namespace.ip(&format!(
            "route add {CLIENT_ADDRESS}/32 dev {interface} src {} congctl {name}\n",
            self.address
        ))?;
        if self.ipv6 {
            self.namespace.ip(&format!(
                "-6 route add {CLIENT_ADDRESS_V6}/128 dev {interface} congctl {name}\n"
            ))?;
        }
        Ok(())
    }
}
