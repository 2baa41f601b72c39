//! A VLAN tag for an interface that the kernel's own IP stack uses.

use std::fmt::{self, Write};

use tagwire_core::lab::VlanShim;

use crate::error::{LabError, LabResult};
use crate::namespace::Namespace;

/// An interface behind a VLAN, for as long as this lives.
#[derive(Debug)]
pub(crate) struct Tagged {
    /// The interface that takes the address.
    pub(crate) interface: String,
    /// `None` where the kernel has a VLAN device.
    _shim: Option<VlanShim>,
}

impl Tagged {
    /// Puts `parent` behind VLANs: by VLAN devices where the kernel has them, else by two
    /// BPF programs on `parent` itself.
    pub(crate) fn new(namespace: &Namespace, parent: &str, vlans: Vlans) -> LabResult<Self> {
        let Err(no_device) = Self::devices(namespace, parent, vlans) else {
            // The kernel would take an untagged frame for the device's address on the
            // parent too: in this lab, what has not our tag is not heard.
            namespace.sysctl(&format!("ipv4/conf/{parent}/rp_filter"), "1")?;
            namespace.sysctl(&format!("ipv4/conf/{parent}/arp_ignore"), "1")?;
            return Ok(Self { interface: vlans.device(parent), _shim: None });
        };
        let index = namespace.interface_index(parent)?;
        let attached = namespace.run(|| match vlans.outer {
            None => VlanShim::attach(index, vlans.inner),
            Some(outer) => VlanShim::attach_double(index, outer, vlans.inner),
        })?;
        match attached {
            Ok(shim) => Ok(Self { interface: parent.to_owned(), _shim: Some(shim) }),
            Err(no_shim) => Err(LabError::new(
                format!("cannot put {parent} of {} behind VLAN {vlans}", namespace.name()),
                format!("no VLAN device ({}), no BPF programs ({no_shim})", no_device.why()),
                "load the module 8021q (`modprobe 8021q`), or use Linux 6.6 or later",
            )),
        }
    }

    /// Makes a VLAN device for each tag.
    fn devices(namespace: &Namespace, parent: &str, vlans: Vlans) -> LabResult<()> {
        let (device, inner) = (vlans.device(parent), vlans.inner);
        let mut commands = String::new();
        let mut below = parent.to_owned();
        if let Some(outer) = vlans.outer {
            below = format!("{parent}.{outer}");
            let _ = writeln!(
                commands,
                "link add link {parent} name {below} type vlan proto 802.1ad id {outer}\n\
                 link set {below} up"
            );
        }
        let _ = writeln!(
            commands,
            "link add link {below} name {device} type vlan id {inner}\nlink set {device} up"
        );
        namespace.ip(&commands)
    }
}

/// The tags of a lab: one, or an 802.1ad one around it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Vlans {
    /// The VLAN of the 802.1ad tag.
    pub(crate) outer: Option<u16>,
    /// The VLAN of the 802.1Q tag.
    pub(crate) inner: u16,
}

impl Vlans {
    /// The VLAN device on `parent`, where the kernel has them.
    fn device(self, parent: &str) -> String {
        format!("{parent}.{self}")
    }
}

impl fmt::Display for Vlans {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(outer) = self.outer {
            write!(f, "{outer}.")?;
        }
        write!(f, "{}", self.inner)
    }
}
