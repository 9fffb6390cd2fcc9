//! A child is killed in the middle of its work, again and again, and the store must hold all that it acknowledged.

use std::collections::HashMap;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;

use super::*;

const DIRECTORY: &str = "SPEEDY_TEST_META_DIRECTORY";
const TEST: &str = "meta::embedded::tests::crash::a_killed_process_loses_nothing_acknowledged";
const CLIENTS: u64 = 8;
const ROUNDS: u64 = 6;

/// The child: clients that each set a key of their own to rising numbers, and tell every answer they get. Every third
/// transaction is relaxed and told as such.
async fn write_until_killed(directory: &Path) -> ! {
    let store = StdArc::new(open(directory));
    for client in 0..CLIENTS {
        let store = StdArc::clone(&store);
        tokio::spawn(async move {
            let key = format!("client/{client}");
            let entry = get(&store, key.clone()).await;
            let mut number: u64 =
                entry.map_or(0, |entry| std::str::from_utf8(&entry.value).unwrap().parse().unwrap());
            loop {
                number += 1;
                let pair = put(key.clone(), number.to_string());
                let mut pair =
                    pair.write(Write::Put(format!("{key}/{number}").into(), number.to_string().into()));
                let relaxed = number.is_multiple_of(3);
                if relaxed {
                    pair = pair.relaxed();
                }
                let version = commit(&store, pair).await.0;
                let now = store.now().await.unwrap().0;
                println!("\nacknowledged {client} {number} {version} {now} {relaxed}");
            }
        });
    }
    std::future::pending().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_process_loses_nothing_acknowledged() {
    if let Some(directory) = std::env::var_os(DIRECTORY) {
        write_until_killed(Path::new(&directory)).await;
    }
    let directory = tempfile::tempdir().unwrap();
    let mut versions = HashMap::new();
    let mut clock = 0;
    for round in 0..ROUNDS {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([TEST, "--exact", "--nocapture", "--test-threads=1"])
            .env(DIRECTORY, directory.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let pid = child.id();
        let killer = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(600 + 37 * round));
            child.kill().unwrap();
            child.wait().unwrap()
        });
        let mut durable = HashMap::<u64, u64>::new();
        let mut acknowledged = 0;
        for line in output.lines().map_while(Result::ok) {
            let words: Vec<&str> = line.split_whitespace().collect();
            let ["acknowledged", client, number, version, now, relaxed] = words[..] else { continue };
            let [client, number, version, now] =
                [client, number, version, now].map(|word| word.parse::<u64>().unwrap());
            acknowledged += 1;
            assert_eq!(versions.insert(version, (round, client, number)), None, "a version is given once");
            assert!(now + 10_000 >= clock, "the clock stays near");
            clock = clock.max(now);
            if relaxed == "false" {
                durable.insert(client, number);
            }
        }
        killer.join().unwrap();
        assert!(acknowledged > 0, "process {pid} did something in round {round}");

        let store = open(directory.path());
        assert!(store.now().await.unwrap().0 >= clock, "the clock never goes back");
        for (client, number) in durable {
            let key = format!("client/{client}");
            let entry = get(&store, key.clone()).await.expect("what was acknowledged is there");
            let found: u64 = std::str::from_utf8(&entry.value).unwrap().parse().unwrap();
            assert!(found >= number, "client {client}: {found} after {number} was acknowledged");
            for number in 1..=found {
                assert!(get(&store, format!("{key}/{number}")).await.is_some(), "a transaction is whole");
            }
        }
        let fresh = commit(&store, put("parent", round.to_string())).await.0;
        assert_eq!(versions.insert(fresh, (round, CLIENTS, 0)), None, "a version is given once");
    }
}
