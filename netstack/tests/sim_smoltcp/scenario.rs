//! What one seed stands for.

use std::net::Ipv4Addr;
use std::time::Duration;

use tagwire_netstack::{Acd, Config, Ipv4Cidr, MacAddr, Offload, TcpConfig, VlanStack};

use crate::path::{Loss, PER_CENT, PathConfig};
use crate::rng::Rng;

pub(crate) const US: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
pub(crate) const PEER: MacAddr = MacAddr([2, 0, 0, 0, 0, 2]);
pub(crate) const OUR_IP: Ipv4Addr = Ipv4Addr::new(192, 168, 123, 150);
pub(crate) const PEER_IP: Ipv4Addr = Ipv4Addr::new(192, 168, 123, 1);
/// Client `k` has this port and `k` added to it.
pub(crate) const FIRST_PORT: u16 = 50_000;

/// The octet at `offset` of what client `k` sends (`up`) or gets.
pub(crate) fn octet(k: usize, up: bool, offset: usize) -> u8 {
    let mixed = (offset as u32).wrapping_mul(0x9e37_79b1) ^ (offset as u32 >> 9);
    (mixed >> 13) as u8 ^ (k as u8).wrapping_mul(37) ^ if up { 0x55 } else { 0 }
}

/// When the client says that it has no more to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ClientCloses {
    /// As soon as all is queued, and reads on.
    AfterUpload,
    /// When the server has closed.
    AfterDownload,
}

/// When the server begins to answer and closes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ServerCloses {
    /// As soon as all is queued, and reads on.
    AfterDownload,
    /// When the client has closed too.
    AfterBoth,
    /// It even begins to send only then.
    AnswersAfterUpload,
}

/// Who ends it early, and how many octets it has got by then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Abort {
    Client(usize),
    Server(usize),
}

/// One connection.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) start: Duration,
    pub(crate) upload: usize,
    pub(crate) download: usize,
    pub(crate) client_closes: ClientCloses,
    pub(crate) server_closes: ServerCloses,
    pub(crate) abort: Option<Abort>,
    pub(crate) client_rx: usize,
    pub(crate) client_tx: usize,
    pub(crate) nagle: bool,
    pub(crate) client_ack_delay: bool,
    pub(crate) timestamps: bool,
    /// The longest that either application lets data wait.
    pub(crate) read_pause: Duration,
}

/// Everything that a seed decides.
#[derive(Clone, Debug)]
pub(crate) struct Scenario {
    pub(crate) vlan: Option<u16>,
    /// The tag travels beside the frame, as the kernel hands it over.
    pub(crate) stripped_tag: bool,
    pub(crate) mtu: u16,
    pub(crate) peer_mtu: u16,
    pub(crate) offload: Offload,
    pub(crate) buffer_len: usize,
    pub(crate) receive_buffer: usize,
    /// Towards the client, and back.
    pub(crate) down: PathConfig,
    pub(crate) up: PathConfig,
    pub(crate) plans: Vec<Plan>,
}

fn path(rng: &mut Rng, rate: u64, delay: Duration, clean: bool) -> PathConfig {
    let queue = rng.pick(&[20_000, 60_000, 250_000, 1_000_000]);
    let mut path = PathConfig::clean(rate, delay, queue);
    if clean {
        return path;
    }
    let mut up_to = |most: u64| rng.between(0, most * PER_CENT);
    let loss = up_to(20);
    (path.duplicate, path.corrupt, path.reorder) = (up_to(10), up_to(5), up_to(10));
    path.loss = match rng.chance(700) {
        true => Loss::Uniform(loss),
        false => Loss::Burst { enter: loss / 4, leave: rng.between(40, 90) * PER_CENT },
    };
    path.places = rng.between(1, 10);
    path.jitter = (delay * rng.between(0, 3) as u32).min(Duration::from_millis(100));
    path
}

impl Scenario {
    pub(crate) fn new(rng: &mut Rng) -> Self {
        let most = rng.pick(&[3_000, 60_000, 400_000, 2_000_000]);
        let clean = rng.chance(150);
        let rate = rng.pick(&[1, 10, 100, 1000, 10_000]) * 1_000_000;
        let delay = Duration::from_micros(rng.pick(&[10, 100, 1_000, 20_000, 80_000, 150_000]));
        let (down, up) = (path(rng, rate, delay, clean), path(rng, rate, delay, clean));
        let plans = (0..rng.between(1, 6)).map(|_| Plan::new(rng, most)).collect();
        let (vlan, stripped_tag) = (rng.pick(&[None, Some(1), Some(123)]), rng.chance(500));
        Self {
            vlan,
            stripped_tag,
            mtu: rng.pick(&[576, 1280, 1500, 1500, 9000]),
            peer_mtu: rng.pick(&[576, 1280, 1500, 1500, 9000]),
            offload: rng.pick(&[
                Offload::NONE,
                Offload::FULL,
                Offload::FULL,
                Offload { checksum: true, segmentation: false },
            ]),
            buffer_len: rng.pick(&[1536, 2048, 66_000]),
            receive_buffer: rng.pick(&[4096, 16_000, 65_535, 65_535, 300_000]),
            down,
            up,
            plans,
        }
    }

    pub(crate) fn vlan_stack(&self) -> VlanStack {
        self.vlan.map_or(VlanStack::UNTAGGED, |vid| VlanStack::tagged(vid).expect("a VLAN"))
    }

    pub(crate) fn config(&self, secret: u64) -> Config {
        let mut key = [0; 16];
        key[..8].copy_from_slice(&secret.to_be_bytes());
        Config {
            mac: US,
            vlan: self.vlan_stack(),
            pcp: 0,
            mtu: self.mtu,
            addresses: vec![Ipv4Cidr { address: OUR_IP, prefix: 24 }.into()],
            gateway: None,
            gateway6: None,
            acd: Acd::default(),
            slaac: false,
            stable_secret: None,
            passive: false,
            secret: key,
            offload: self.offload,
            tcp: TcpConfig {
                receive_buffer: self.receive_buffer,
                // A wire that loses a fifth of all round trips is not dead for it.
                rto_max: Duration::from_secs(10),
                ..TcpConfig::default()
            },
        }
    }
}

impl Plan {
    fn new(rng: &mut Rng, most: u64) -> Self {
        let millis = Duration::from_millis;
        let client_closes = rng.pick(&[ClientCloses::AfterUpload, ClientCloses::AfterDownload]);
        // Two that wait for each other would wait for ever.
        let server_closes = match client_closes {
            ClientCloses::AfterDownload => ServerCloses::AfterDownload,
            ClientCloses::AfterUpload => rng.pick(&[
                ServerCloses::AfterDownload,
                ServerCloses::AfterBoth,
                ServerCloses::AnswersAfterUpload,
            ]),
        };
        let abort = rng.chance(80).then(|| {
            let at = rng.size(most);
            if rng.chance(500) { Abort::Client(at) } else { Abort::Server(at) }
        });
        Self {
            start: millis(rng.between(0, 300)),
            upload: rng.size(most),
            download: rng.size(most),
            client_closes,
            server_closes,
            abort,
            client_rx: rng.pick(&[2_000, 10_000, 65_535, 200_000]),
            client_tx: rng.pick(&[2_000, 10_000, 65_535]),
            nagle: rng.chance(500),
            client_ack_delay: rng.chance(700),
            timestamps: rng.chance(500),
            read_pause: millis(rng.pick(&[0, 0, 0, 5, 50, 400])),
        }
    }
}
