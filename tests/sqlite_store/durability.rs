//! Opens what a power cut can leave behind: the file as it was last checkpointed, and a write-ahead log that ends anywhere
//! after the part that was synced.

use std::fs;

use idempotent_runtime::Store;
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};

use crate::{
    sqlite_file::SqliteFile,
    support::{claim, connect, finish, is_done, key},
};

/// Before each acknowledgement the log was synced up to there. Behind that may be anything.
#[tokio::test]
async fn a_log_that_ends_anywhere_behind_an_acknowledgement_has_it() {
    let seed = rand::random();
    eprintln!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let file = SqliteFile::new();
    let store = connect(&file).await;
    let wal = |file: &SqliteFile| format!("{}-wal", file.path().display());
    let mut lengths = Vec::new();
    for number in 0..60 {
        finish(&store, &key(number)).await;
        lengths.push(fs::metadata(wal(&file)).expect("a log").len());
    }
    assert!(lengths.is_sorted(), "the log began anew, which this test does not expect");
    let (database, log) = (fs::read(file.path()).expect("a file"), fs::read(wal(&file)).expect("a log"));

    for (number, length) in lengths.iter().enumerate() {
        let synced = usize::try_from(*length).expect("a length");
        let end = random.random_range(synced..=log.len());
        let mut torn = log[..end].to_vec();
        // Blocks that were on their way may have arrived damaged.
        if let Some(tail) = torn.get_mut(synced..)
            && !tail.is_empty()
        {
            let from = random.random_range(0..tail.len());
            random.fill(&mut tail[from..]);
        }
        let copy = SqliteFile::new();
        fs::write(copy.path(), &database).expect("a copy");
        fs::write(wal(&copy), torn).expect("a copy");
        let survivor = connect(&copy).await;
        for acknowledged in 0..=number {
            assert!(is_done(&survivor, &key(acknowledged)).await, "{acknowledged} of {number} is lost");
        }
        // And it goes on from there, with fences that rise.
        let before = survivor.inspect(&key(number)).await.expect("an answer").expect("a record");
        assert_eq!(before.attempt, 1);
        claim(&survivor, &key("next")).await;
    }
}
