//! Kernels that lack options of TCP, or were told to.

use tagwire_lab::Lab;

use crate::bed::{Bed, content};
use crate::client::{Client, download};

fn with_client(prepare: impl FnOnce(&Bed)) {
    let Some(mut bed) = Bed::down(Lab::builder()) else { return };
    let file = content(10, 5 << 20);
    bed.put("file.bin", &file);
    prepare(&bed);
    bed.start(&[]);
    download(&bed, "/file.bin", &file, 4);
    bed.assert_serves();
    bed.finish();
}

#[test]
pub(crate) fn without_sack() {
    with_client(|bed| bed.client_sysctl("ipv4/tcp_sack", "0"));
}

#[test]
pub(crate) fn without_timestamps() {
    with_client(|bed| bed.client_sysctl("ipv4/tcp_timestamps", "0"));
}

#[test]
pub(crate) fn without_window_scaling() {
    with_client(|bed| bed.client_sysctl("ipv4/tcp_window_scaling", "0"));
}

#[test]
pub(crate) fn without_any_option() {
    with_client(|bed| {
        for key in ["tcp_sack", "tcp_timestamps", "tcp_window_scaling"] {
            bed.client_sysctl(&format!("ipv4/{key}"), "0");
        }
    });
}

#[test]
pub(crate) fn with_the_smallest_usual_mss() {
    with_client(|bed| {
        let interface = bed.lab().client_interface();
        let route = ["ip", "route", "replace", "192.168.123.0/24", "dev", interface];
        bed.client_ok(&[&route[..], &["advmss", "536"]].concat());
    });
}

#[test]
pub(crate) fn with_tiny_receive_buffers() {
    let Some(bed) = Bed::up() else { return };
    let file = content(11, 5 << 20);
    bed.put("file.bin", &file);
    for buffer in [1, 3000, 8192] {
        let mut client = Client::connect_small(&bed, buffer);
        assert!(client.get("/file.bin").body == file, "{buffer}");
    }
    bed.finish();
}
