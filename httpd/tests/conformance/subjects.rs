//! The two that the suite runs against, each in its pod: Tagwire as it is shipped, and nginx on
//! the kernel's TCP behind the same VLAN.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Instant;

use tagwire_lab::{Lab, LabProcess, POD_INTERFACE};

use crate::bed::{Bed, content};
use crate::nginx;
use crate::packet::Mac;

/// What `/big` is long: more than any window of a case.
pub(crate) const BIG: usize = 4 << 20;
/// What `/middle` is long: more than a few segments, less than what a kernel queues.
pub(crate) const MIDDLE: usize = 20_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Name {
    Tagwire,
    Linux,
}

/// Where a subject is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Subject {
    pub(crate) name: Name,
    pub(crate) mac: Mac,
    pub(crate) v4: Ipv4Addr,
    pub(crate) v6: Ipv6Addr,
    /// When it was up.
    pub(crate) since: Instant,
}

pub(crate) struct Subjects {
    pub(crate) all: [Subject; 2],
    pub(crate) bed: Bed,
    nginx: LabProcess,
}

impl Subjects {
    /// Both, up and serving; `None` where there can be no lab.
    pub(crate) fn up() -> Option<Self> {
        let mut bed = Bed::down(Lab::builder().pods(2))?;
        tagwire_lab::require_tools(&["nginx"]).unwrap();
        bed.put("big", &content(3, BIG));
        bed.put("middle", &content(4, MIDDLE));
        nginx::open_to_all(&bed.www());
        // Frames come as a wire would carry them: cut to size, their checksums filled in.
        let node = bed.lab().node();
        let offloads = "ethtool -K nic0 tx off tso off gso off gro off";
        let off = node.command("sh").args(["-c", offloads]).output().unwrap();
        assert!(off.status.success(), "{offloads}: {off:?}");
        // One CPU for all that comes in, so that frames stay in their order.
        bed.lab().steer(1, 1).unwrap();
        let v6 = format!("{TAGWIRE_V6}/64");
        bed.start(&["--address", &v6]);
        let nginx = start_nginx(&bed);
        let subject = |name, pod: usize, v6| {
            let pod = bed.lab().pod(pod);
            Subject { name, mac: pod.mac(), v4: pod.address(), v6, since: Instant::now() }
        };
        let all = [subject(Name::Tagwire, 0, TAGWIRE_V6), subject(Name::Linux, 1, LINUX_V6)];
        Some(Self { all, bed, nginx })
    }

    /// Ends both; the appliance must end well.
    pub(crate) fn finish(mut self) {
        self.nginx.kill();
        self.bed.assert_serves();
        self.bed.finish();
    }
}

const TAGWIRE_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x123, 0, 0, 0, 0, 1, 0x150);
const LINUX_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x123, 0, 0, 0, 0, 1, 0x151);

fn start_nginx(bed: &Bed) -> LabProcess {
    let nginx = nginx::start(bed, 1, "");
    let script = format!(
        "cd /proc/sys/net/ipv6/conf && device=$(ls | grep {POD_INTERFACE} | tail -n 1) &&
         echo 0 > $device/accept_ra && echo 0 > $device/disable_ipv6 &&
         ip address add {LINUX_V6}/64 dev $device nodad"
    );
    let output = bed.lab().pod(1).command("sh").args(["-c", &script]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    nginx
}
