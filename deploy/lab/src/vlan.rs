//! A VLAN tag for an interface that the kernel's own IP stack uses.

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
    /// Puts `parent` behind the VLAN `vid`: by a VLAN device where the kernel has them,
    /// else by two BPF programs on `parent` itself.
    pub(crate) fn new(namespace: &Namespace, parent: &str, vid: u16) -> LabResult<Self> {
        let device = format!("{parent}.{vid}");
        let made = namespace.ip(&format!(
            "link add link {parent} name {device} type vlan id {vid}\nlink set {device} up\n"
        ));
        let Err(no_device) = made else {
            // The kernel would take an untagged frame for the device's address on the
            // parent too: in this lab, what has not our tag is not heard.
            namespace.sysctl(&format!("ipv4/conf/{parent}/rp_filter"), "1")?;
            namespace.sysctl(&format!("ipv4/conf/{parent}/arp_ignore"), "1")?;
            return Ok(Self { interface: device, _shim: None });
        };
        let index = namespace.interface_index(parent)?;
        match namespace.run(|| VlanShim::attach(index, vid))? {
            Ok(shim) => Ok(Self { interface: parent.to_owned(), _shim: Some(shim) }),
            Err(no_shim) => Err(LabError::new(
                format!("cannot put {parent} of {} behind VLAN {vid}", namespace.name()),
                format!("no VLAN device ({}), no BPF programs ({no_shim})", no_device.why()),
                "load the module 8021q (`modprobe 8021q`), or use Linux 6.6 or later",
            )),
        }
    }
}
