//! Files that come in parts: what is read of them, what is held for whom, and what happens to those that
//! change.

use futures_lite::future::yield_now;

use super::*;
use crate::cache::DownloadStats;
use crate::limits::{GIVE_WAY_AFTER, LEAST_PIECE, OPEN_FILES, PIPELINED_REQUESTS};

/// A server whose downloads may hold so many octets.
fn bench_with(cache_size: u64, memory: usize) -> Bench {
    let cache = Cache::new(cache_size).with_download_memory(memory);
    Bench::with_cache(cache, |root| SiteSettings::new(root.to_owned()))
}

impl Bench {
    fn downloads(&self) -> DownloadStats {
        self.cache.download_stats()
    }

    /// Waits until everything is given back: the cold side lets go a moment after it has answered.
    fn holds_nothing(&self) {
        let nothing = DownloadStats { held: 0, streams: 0, waiting: 0, ..self.downloads() };
        self.run(until(|| self.downloads() == nothing));
    }

    /// These clients go away, and nothing is held for them any more.
    fn is_left_by(&self, clients: &[Client]) {
        clients.iter().for_each(Client::reset);
        self.run(async {
            for client in clients {
                client.dropped().await;
            }
        });
        self.holds_nothing();
    }

    /// Sends a request and takes nothing of its answer but the head.
    async fn stalls(&self, request: impl AsRef<[u8]>) -> Client {
        let client = self.connect();
        client.take_only(0);
        client.write(request);
        client.resting().await;
        client
    }
}

fn get_part(path: &str, from: usize, to: usize) -> String {
    let range = format!("Range: bytes={from}-{}\r\nConnection: close\r\n", to - 1);
    format!("GET {path} HTTP/1.1\r\nHost: x\r\n{range}\r\n")
}

fn body(answer: &[u8]) -> &[u8] {
    let end = answer.windows(4).position(|octets| octets == b"\r\n\r\n").unwrap();
    &answer[end + 4..]
}

async fn until(condition: impl Fn() -> bool) {
    while !condition() {
        yield_now().await;
    }
}

#[test]
fn a_file_larger_than_the_cache_is_streamed() {
    let content = pattern(5 * CHUNK + 17);
    for memory in [2 * LEAST_PIECE, 1 << 20, 1 << 26] {
        for cache_size in [0, 1 << 20, 3 << 20, 1 << 26] {
            let bench = bench_with(cache_size, memory);
            bench.file("big", &content);
            bench.file("chunk", &content[..CHUNK]);
            bench.file("more", &content[..=CHUNK]);
            for _ in 0..2 {
                downloads(&bench, "/big", &content);
                downloads(&bench, "/chunk", &content[..CHUNK]);
                downloads(&bench, "/more", &content[..=CHUNK]);
            }
            assert!(bench.cache.stats().bytes <= cache_size);
            bench.holds_nothing();
        }
    }
}

#[test]
fn a_slow_client_holds_little_and_is_waited_for() {
    let bench = Bench::new(1 << 26);
    let content = pattern(8 * CHUNK);
    bench.file("big", &content);
    let checks = Limits::DEFAULT.send_timeout.as_secs() / GIVE_WAY_AFTER.as_secs();
    bench.run(async {
        let client = bench.stalls(get("/big")).await;
        client.half_close();
        assert!(client.most_queued() <= 128 * 1024 + 1024, "{}", client.most_queued());
        until(|| bench.downloads().held <= 128 * 1024).await;
        // As much progress within the time as is asked for goes on.
        for check in 0..checks {
            if check == 3 {
                client.take_only(Limits::DEFAULT.least_progress());
            }
            assert_eq!(client.expire(), GIVE_WAY_AFTER);
            client.resting().await;
        }
        client.take_all();
        assert!(client.ended().await);
        assert!(client.received().ends_with(&content[CHUNK..]));
        // None at all does not.
        let client = bench.stalls(get("/big")).await;
        for _ in 0..checks {
            client.resting().await;
            client.expire();
        }
        assert!(!client.ended().await, "aborted");
        client.dropped().await;
    });
    bench.holds_nothing();
}

#[test]
fn who_wants_an_octet_holds_no_chunk() {
    let bench = Bench::new(1 << 26);
    bench.file("big", pattern(4 * CHUNK));
    let clients: Vec<_> = bench.run(async {
        let mut clients = Vec::new();
        for at in 0..4 {
            let at = at * CHUNK + 7;
            clients.push(bench.stalls(get_part("/big", at, at + 1)).await);
        }
        until(|| bench.downloads().held <= 4).await;
        clients
    });
    bench.is_left_by(&clients);
}

#[test]
fn a_crowd_of_slow_clients_stays_within_its_memory_and_slows_no_fast_one() {
    const CLIENTS: usize = 200;
    let content = pattern(8 * CHUNK);
    // Without a cache, so that each piece is a read.
    let loads = |bench: &Bench| {
        let before = bench.cache.stats().loads;
        downloads(bench, "/big", &content);
        bench.cache.stats().loads - before
    };
    let bench = Bench::new(0);
    bench.file("big", &content);
    let alone = loads(&bench);
    assert!(alone < 15, "{alone}");
    let mut crowd = Vec::new();
    bench.run(async {
        for at in 0..CLIENTS {
            let at = at * 40_000;
            crowd.push(bench.stalls(get_part("/big", at, 8 * CHUNK)).await);
        }
        // They take what a kernel takes for them, and then nothing more.
        for client in &crowd {
            client.take_only(64 * 1024);
            client.resting().await;
        }
    });
    let DownloadStats { budget, held, streams, .. } = bench.downloads();
    assert_eq!(streams, CLIENTS as u64);
    assert!(held < budget && held >= (CLIENTS * 64 * 1024) as u64, "{held}");
    assert_eq!(loads(&bench), alone, "pieces as large as before");
    bench.is_left_by(&crowd);
}

#[test]
fn a_crowd_at_different_places_reads_what_it_sends_and_no_more() {
    const CLIENTS: usize = 300;
    let content = pattern(24 * CHUNK);
    for (cache_size, memory) in [(0, 1 << 20), (1 << 20, 4 << 20), (32 << 20, 4 << 20)] {
        let bench = bench_with(cache_size, memory);
        bench.file("big", &content);
        let len = CHUNK / 2;
        let place = |at: usize| at * 79_999 % (content.len() - len);
        let clients: Vec<_> = (0..CLIENTS)
            .map(|at| {
                let client = bench.connect();
                client.write(get_part("/big", place(at), place(at) + len));
                client.half_close();
                client
            })
            .collect();
        bench.run(async {
            for (at, client) in clients.iter().enumerate() {
                client.dropped().await;
                let answer = client.received();
                assert!(body(&answer) == &content[place(at)..place(at) + len], "{at}");
            }
        });
        let (read, sent) = (bench.cache.stats().octets_read, (CLIENTS * len) as u64);
        // What lies in a piece before and behind a part, where a chunk is read for the cache.
        assert!(read <= sent + (2 * content.len()) as u64, "{read} read, {sent} sent");
        bench.holds_nothing();
    }
}

#[test]
fn those_at_the_same_place_share_a_read() {
    let content = pattern(8 * CHUNK);
    let bench = Bench::new(1 << 26);
    bench.file("big", &content);
    let clients: Vec<_> = (0..20).map(|_| bench.connect()).collect();
    for client in &clients {
        client.write(get_part("/big", 0, 8 * CHUNK));
        client.half_close();
    }
    bench.run(async {
        for client in &clients {
            client.dropped().await;
            assert!(body(&client.received()) == content);
        }
    });
    assert_eq!(bench.cache.stats().octets_read, content.len() as u64);
}

/// What the cache lets go of lives on for those who take it: not without bound.
#[test]
fn files_that_are_cached_whole_come_in_pieces_once_slow_clients_hold_too_many() {
    const FILE: usize = 200 * 1024;
    const MEMORY: usize = 1 << 20;
    let bench = bench_with(MEMORY as u64, MEMORY);
    let content = pattern(FILE);
    let alive = || bench.cache.stats().alive as usize;
    let mut crowd = Vec::new();
    bench.run(async {
        for number in 0..20 {
            bench.file(&format!("{number}"), &content);
            crowd.push(bench.stalls(get(&format!("/{number}"))).await);
        }
        assert!(alive() > 2 * MEMORY && alive() <= 2 * MEMORY + FILE, "{}", alive());
        assert!(bench.downloads().streams >= 8, "the rest is charged");
        for client in &crowd {
            client.take_all();
            client.half_close();
            assert!(client.ended().await);
            assert!(client.received().ends_with(&content));
        }
    });
    bench.holds_nothing();
    assert!(alive() <= MEMORY, "{}", alive());
    // Whole again.
    bench.file("last", &content);
    downloads(&bench, "/last", &content);
    let read = bench.cache.stats().octets_read;
    downloads(&bench, "/last", &content);
    assert_eq!(bench.cache.stats().octets_read, read);
}

#[test]
fn who_waits_for_memory_gets_it_in_turn_and_from_those_that_take_nothing() {
    let bench = bench_with(0, 4 * LEAST_PIECE);
    let content = pattern(2 * CHUNK);
    bench.file("big", &content);
    bench.run(async {
        let mut holders = Vec::new();
        for _ in 0..4 {
            holders.push(bench.stalls(get("/big")).await);
        }
        assert_eq!(bench.downloads().held, 4 * LEAST_PIECE as u64);
        // No answer is begun that cannot be gone on with.
        let waiting: Vec<_> = (0..2).map(|_| bench.connect()).collect();
        for client in &waiting {
            let others = bench.downloads().waiting;
            client.take_only(0);
            client.write(get("/big"));
            until(|| bench.downloads().waiting == others + 1).await;
            assert!(client.received().is_empty());
        }
        // Who goes on taking keeps its place, and those wait in turn for what it gives back.
        holders[0].take_only(LEAST_PIECE + 1000);
        waiting[0].resting().await;
        assert_eq!(bench.downloads().waiting, 2);
        // Who takes nothing gives way.
        assert_eq!(holders[1].expire(), GIVE_WAY_AFTER);
        assert!(!holders[1].ended().await, "reset");
        waiting[1].resting().await;
        assert_eq!(bench.content.tally.gave_way.get(), 1);
        assert_eq!(bench.downloads().waiting, 1, "the first one, again");
        for client in holders.iter().chain(&waiting) {
            client.take_all();
        }
        for client in [&holders[0], &holders[2], &holders[3], &waiting[0], &waiting[1]] {
            client.half_close();
            assert!(client.ended().await, "in order");
            assert!(client.received().ends_with(&content));
        }
    });
    assert!(bench.downloads().waited >= 3);
}

#[test]
fn who_has_its_last_piece_queued_gives_way_too() {
    let bench = bench_with(0, LEAST_PIECE);
    let content = pattern(2 * CHUNK);
    bench.file("big", &content);
    let part = || get_part("/big", 5, 5 + LEAST_PIECE / 2);
    bench.run(async {
        let holder = bench.stalls(part()).await;
        assert_eq!(holder.expire(), GIVE_WAY_AFTER);
        holder.resting().await;
        assert_eq!(bench.content.tally.gave_way.get(), 0, "nobody waits");
        let waiting = bench.connect();
        waiting.write(get_part("/big", 0, LEAST_PIECE));
        until(|| bench.downloads().waiting == 1).await;
        assert_eq!(holder.expire(), GIVE_WAY_AFTER);
        assert!(!holder.ended().await, "reset");
        assert_eq!(bench.content.tally.gave_way.get(), 1);
        waiting.half_close();
        assert!(waiting.ended().await);
        assert_eq!(body(&waiting.received()), &content[..LEAST_PIECE]);
        // Who takes it in time has it whole.
        let client = bench.stalls(part()).await;
        client.take_all();
        client.half_close();
        assert!(client.ended().await);
        assert_eq!(body(&client.received()), &content[5..5 + LEAST_PIECE / 2]);
    });
    bench.holds_nothing();
}

#[test]
fn requests_sent_ahead_by_those_that_wait_have_a_bound_too() {
    let bench = bench_with(0, LEAST_PIECE);
    bench.file("big", pattern(2 * CHUNK));
    bench.file("small", "hello");
    let request = get("/big") + &get("/small").repeat(60_000 / get("/small").len());
    // As much as is left for others.
    let fit = (PIPELINED_REQUESTS / 2 / request.len()) as u64;
    bench.run(async {
        let _holder = bench.stalls(get("/big")).await;
        let waits = |number| {
            let client = bench.connect();
            client.take_only(0);
            client.write(&request);
            let bench = &bench;
            async move {
                until(|| bench.downloads().waiting == number).await;
                client
            }
        };
        let mut waiting = Vec::new();
        for number in 1..=fit {
            waiting.push(waits(number).await);
        }
        let client = bench.connect();
        client.write(&request);
        client.half_close();
        assert!(client.ended().await);
        assert!(client.received().starts_with(b"HTTP/1.1 503 "));
        assert_eq!(bench.content.tally.pipelines_full.get(), 1);
    });
}

#[test]
fn a_file_that_changes_while_it_is_sent_ends_the_connection() {
    let bench = Bench::new(0);
    let content = pattern(8 * CHUNK);
    bench.file("big", &content);
    let client = bench.connect();
    client.take_only(0);
    client.write(get("/big"));
    bench.run(async {
        client.resting().await;
        fs::write(bench.root.path().join("big"), &content[..4 * CHUNK]).unwrap();
        client.take_all();
        assert!(!client.ended().await, "aborted");
        let got = client.received();
        let end = got.windows(4).position(|octets| octets == b"\r\n\r\n").unwrap() + 4;
        assert!(content.starts_with(&got[end..]), "nothing but the old content before it");
    });
}

#[test]
fn a_file_replaced_while_it_is_sent_is_sent_to_its_end() {
    let bench = Bench::new(0);
    let content = pattern(8 * CHUNK);
    bench.file("big", &content);
    let client = bench.connect();
    client.take_only(0);
    client.write(get("/big"));
    client.half_close();
    bench.run(async {
        client.resting().await;
        bench.file("new", "new");
        rename(bench.root.path(), "new", "big");
        client.take_all();
        assert!(client.ended().await);
        assert!(client.received().ends_with(&content));
    });
    downloads(&bench, "/big", b"new");
}

/// A server that knows a large file, and has it open no more.
fn known_and_closed() -> Bench {
    let bench = Bench::new(1 << 26);
    bench.file("big", pattern(2 * CHUNK));
    bench.exchange(get("/big").replace("GET", "HEAD"));
    for other in 0..OPEN_FILES {
        let name = format!("other{other}");
        bench.file(&name, "");
        let file = fs::File::options().write(true).open(bench.root.path().join(&name)).unwrap();
        file.set_len(2 * CHUNK as u64).unwrap();
        bench.exchange(get(&format!("/{name}")).replace("GET", "HEAD"));
    }
    bench
}

#[test]
fn a_file_replaced_before_its_first_octets_are_read_is_sent_as_it_is_now() {
    let content = pattern(3 * CHUNK + 5);
    let bench = known_and_closed();
    bench.file("new", &content);
    rename(bench.root.path(), "new", "big");
    let loads = bench.cache.stats().loads;
    downloads(&bench, "/big", &content);
    assert!(bench.cache.stats().loads > loads + 4, "nothing was known of it");

    let bench = known_and_closed();
    bench.file("new", "small");
    rename(bench.root.path(), "new", "big");
    downloads(&bench, "/big", b"small");

    let bench = known_and_closed();
    fs::remove_file(bench.root.path().join("big")).unwrap();
    let answer = bench.text(get("/big"));
    assert!(answer.starts_with("HTTP/1.1 404 "), "{answer}");
}

#[test]
fn a_file_replaced_right_after_it_was_looked_at_is_sent_as_it_was() {
    let bench = Bench::new(1 << 26);
    let content = pattern(2 * CHUNK);
    bench.file("big", &content);
    bench.exchange(get("/big").replace("GET", "HEAD"));
    bench.file("new", "new");
    rename(bench.root.path(), "new", "big");
    downloads(&bench, "/big", &content);
}
