//! Many small files: what the cache says that they take is what they take.

use tagwire_lab::Lab;

use crate::bed::Bed;
use crate::client::{Client, request};

const FILES: usize = 20_000;
const IN_A_DIRECTORY: usize = 100;

fn name(number: usize) -> String {
    format!("/{}/{number}.txt", number / IN_A_DIRECTORY)
}

/// Asks for each of these, many at a time.
fn load(client: &mut Client, files: std::ops::Range<usize>) {
    let files: Vec<_> = files.collect();
    for some in files.chunks(IN_A_DIRECTORY) {
        let requests: String = some.iter().map(|&number| request("GET", &name(number))).collect();
        client.send(requests.as_bytes());
        for &number in some {
            let answer = client.answer();
            assert_eq!((answer.status, answer.body.len()), (200, 0), "{number}");
        }
    }
}

#[test]
fn empty_files_take_no_more_memory_than_the_cache_says() {
    let Some(mut bed) = Bed::down(Lab::builder()) else { return };
    bed.serve_from("tmpfs");
    bed.start(&["--cache-size", "64m"]);
    (0..FILES).for_each(|number| bed.put(&name(number)[1..], b""));
    let mut client = Client::connect(&bed);
    // What is set up once, and by how many of them the tables have grown.
    let first = FILES / 10;
    load(&mut client, 0..first);
    let held = || (bed.memory("VmRSS") * 1024, bed.figure("cache", "bytes"));
    let before = held();
    load(&mut client, first..FILES);
    let after = held();
    let (memory, told) = (after.0.saturating_sub(before.0), after.1 - before.1);
    assert!(bed.figure("cache", "entries") >= FILES as u64);
    let each = |octets: u64| octets / (FILES - first) as u64;
    // Tables double when they grow, before what fills them has come.
    assert!(2 * memory <= 3 * told, "{} octets each, the cache says {}", each(memory), each(told));
    bed.finish();
}
