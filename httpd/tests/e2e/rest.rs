//! At rest: next to no CPU, and little memory.

use std::time::Duration;

use crate::bed::{Bed, wait_until};
use crate::client::Client;

/// Long enough that one tick of the kernel's clock is well below one percent.
const SPAN: Duration = Duration::from_secs(3);

fn assert_rests(bed: &Bed) {
    let before = bed.cpu_time();
    std::thread::sleep(SPAN);
    let used = bed.cpu_time() - before;
    assert!(used < SPAN / 100, "{used:?} of CPU in {SPAN:?} at rest");
}

#[test]
fn it_sleeps_when_there_is_nothing_to_do() {
    let Some(bed) = Bed::up() else { return };
    assert_rests(&bed);
    let resident = bed.memory("VmRSS");
    assert!(resident < 24 * 1024, "{resident} KiB resident at rest");

    let mut clients: Vec<Client> = (0..100).map(|_| Client::connect(&bed)).collect();
    for client in &mut clients {
        assert_eq!(client.get("/").status, 200);
    }
    assert_rests(&bed);
    assert_eq!(bed.status()["connections"], 100);

    for client in &mut clients {
        assert_eq!(client.get("/").status, 200, "it is still there");
    }
    drop(clients);
    wait_until("all are closed", Duration::from_secs(5), || bed.status()["connections"] == 0);
    assert_rests(&bed);
    bed.finish();
}
