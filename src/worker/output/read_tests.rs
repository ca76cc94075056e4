//! Logs found again: by tail, time and pattern, over rotations.

use std::time::SystemTime;

use super::super::file::LogFile;
use super::super::index::IndexWriter;
use super::*;

struct Logs {
    dir: tempfile::TempDir,
    log: LogFile,
}

impl Logs {
    fn new(max_size: u64, keep: u32) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let log = LogFile::new(LogPath::new(dir.path(), "a"), max_size, keep);
        Self { dir, log }
    }

    fn write(&mut self, text: &str) {
        self.log.write(text.as_bytes(), false).unwrap();
    }

    fn reader(&self) -> LogReader {
        LogReader::new(self.dir.path(), &"a".parse().unwrap(), StreamName::Stdout)
    }

    fn find(&self, query: &LogQuery) -> Vec<String> {
        let mut lines = Vec::new();
        self.reader().read(query, |line| push(&mut lines, line.text)).unwrap();
        lines
    }
}

fn push(lines: &mut Vec<String>, line: &[u8]) -> io::Result<()> {
    lines.push(String::from_utf8_lossy(line).into_owned());
    Ok(())
}

fn more(follower: &mut LogFollower) -> Vec<String> {
    let mut lines = Vec::new();
    while follower.read(|line| push(&mut lines, line.text)).unwrap() {}
    lines
}

fn regex(text: &str) -> Option<regex::bytes::Regex> {
    Some(regex::bytes::Regex::new(text).unwrap())
}

fn ten_lines() -> Logs {
    let mut logs = Logs::new(20, 9);
    for number in 0..10 {
        logs.write(&format!("line {number}\n"));
    }
    logs
}

#[test]
fn a_tail_reaches_across_rotated_files() {
    let logs = ten_lines();
    let last = |tail| logs.find(&LogQuery { tail: Some(tail), ..LogQuery::default() });
    assert_eq!(last(0), Vec::<String>::new());
    assert_eq!(last(1), ["line 9"]);
    assert_eq!(last(5), ["line 5", "line 6", "line 7", "line 8", "line 9"]);
    assert_eq!(last(1000).len(), 10);
    assert_eq!(logs.find(&LogQuery::default()).first().unwrap(), "line 0");
}

#[test]
fn a_tail_of_what_matches_is_the_last_that_matches() {
    let logs = ten_lines();
    let query = LogQuery { tail: Some(2), grep: regex("[135]$"), since: None };
    assert_eq!(logs.find(&query), ["line 3", "line 5"]);
}

#[test]
fn a_tail_finds_long_lines_and_blank_ones() {
    let mut logs = Logs::new(1 << 20, 1);
    let long = "x".repeat(200_000);
    logs.write(&format!("first\n{long}\n\n"));
    assert_eq!(logs.find(&LogQuery { tail: Some(1), ..LogQuery::default() }), [""]);
    assert_eq!(logs.find(&LogQuery { tail: Some(2), ..LogQuery::default() }), [long.as_str(), ""]);
    assert_eq!(logs.find(&LogQuery { tail: Some(3), ..LogQuery::default() }).len(), 3);
}

#[test]
fn since_goes_by_the_index_and_without_one_shows_the_whole_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = LogPath::new(dir.path(), "a");
    let now = Timestamp::now();
    let ago = |seconds: i64| Timestamp::from_millisecond(now.as_millisecond() - seconds * 1000).unwrap();
    let ms = |at: Timestamp| u64::try_from(at.as_millisecond()).unwrap();
    std::fs::write(path.log(1), "ancient\n").unwrap();
    let old = SystemTime::now() - Duration::from_secs(7200);
    File::options().append(true).open(path.log(1)).unwrap().set_modified(old).unwrap();
    std::fs::write(path.log(0), "old\nolder\nnew\n").unwrap();
    let mut index = IndexWriter::open(&path.index(0), 0).unwrap();
    index.note(ms(ago(3600)), 0).unwrap();
    index.note(ms(ago(60)), 10).unwrap();
    let reader = LogReader::new(dir.path(), &"a".parse().unwrap(), StreamName::Stdout);
    let since = |seconds| {
        let mut lines = Vec::new();
        let query = LogQuery { since: Some(ago(seconds)), ..LogQuery::default() };
        reader.read(&query, |line| push(&mut lines, line.text)).unwrap();
        lines
    };
    assert_eq!(since(10), Vec::<String>::new());
    assert_eq!(since(600), ["new"]);
    assert_eq!(since(3600), ["old", "older", "new"]);
    assert_eq!(since(5000), ["old", "older", "new"], "the rotated one is older than that");
    assert_eq!(since(9000).len(), 4);
    std::fs::remove_file(path.index(0)).unwrap();
    assert_eq!(since(10), ["old", "older", "new"]);
}

#[test]
fn a_follower_sees_every_line_once_through_rotations() {
    let mut logs = Logs::new(20, 3);
    logs.write("line 0\n");
    let mut lines = Vec::new();
    let mut follower = logs.reader().read(&LogQuery::default(), |line| push(&mut lines, line.text)).unwrap();
    let mut number = 1;
    for step in [1, 0, 3, 5, 1, 6] {
        for _ in 0..step {
            logs.write(&format!("line {number}\n"));
            number += 1;
        }
        lines.extend(more(&mut follower));
    }
    let all: Vec<String> = (0..number).map(|number| format!("line {number}")).collect();
    assert_eq!(lines, all);
    logs.write("half a");
    assert!(more(&mut follower).is_empty());
    follower.finish(|line| push(&mut lines, line.text)).unwrap();
    assert_eq!(lines.last().unwrap(), "half a");
}

#[test]
fn a_follower_waits_for_a_log_that_is_not_there_and_survives_lost_ones() {
    let mut logs = Logs::new(20, 1);
    let query = LogQuery { grep: regex("[02468]$"), ..LogQuery::default() };
    let mut follower = logs.reader().read(&query, |_| Ok(())).unwrap();
    assert!(more(&mut follower).is_empty());
    logs.write("line 0\nline 1\n");
    assert_eq!(more(&mut follower), ["line 0"]);
    for number in 2..10 {
        logs.write(&format!("line {number}\n"));
    }
    assert_eq!(more(&mut follower), ["line 6", "line 8"], "the others were rotated away");
}

#[test]
fn a_follower_starts_again_when_the_file_is_emptied() {
    let mut logs = Logs::new(20, 0);
    logs.write("line 0\nline 1\n");
    let mut follower = logs.reader().read(&LogQuery::default(), |_| Ok(())).unwrap();
    logs.write("line 2\n");
    assert_eq!(more(&mut follower), ["line 2"]);
}

/// What stands in the file, and the time that a line of it is shown with.
fn times(logs: &Logs) -> Vec<(String, Option<i64>)> {
    let mut found = Vec::new();
    let each = |line: ReadLine<'_>| {
        let at = line.at.map(Timestamp::as_millisecond);
        found.push((String::from_utf8_lossy(line.text).into_owned(), at));
        Ok(())
    };
    logs.reader().read(&LogQuery::default(), each).unwrap();
    found
}

#[test]
fn each_line_has_the_time_of_its_own_file_also_when_files_were_rotated() {
    let dir = tempfile::tempdir().unwrap();
    let path = LogPath::new(dir.path(), "a");
    std::fs::write(path.log(1), "one\ntwo\nthree\n").unwrap();
    let mut index = IndexWriter::open(&path.index(1), 0).unwrap();
    index.note(10_000, 4).unwrap();
    index.note(20_000, 8).unwrap();
    std::fs::write(path.log(0), "four\n").unwrap();
    IndexWriter::open(&path.index(0), 0).unwrap().note(30_000, 0).unwrap();
    let log = LogFile::new(LogPath::new(dir.path(), "a"), 1000, 2);
    let logs = Logs { dir, log };
    let at = |text: &str, at| (text.to_owned(), at);
    let expected =
        [at("one", None), at("two", Some(10_000)), at("three", Some(20_000)), at("four", Some(30_000))];
    assert_eq!(times(&logs), expected);
}

#[test]
fn a_followed_line_has_its_time() {
    let mut logs = Logs::new(1000, 2);
    let mut follower = logs.reader().read(&LogQuery::default(), |_| Ok(())).unwrap();
    let before = Timestamp::now();
    logs.write("first\n");
    let mut found = Vec::new();
    let each = |line: ReadLine<'_>| {
        found.push(line.at.unwrap());
        Ok(())
    };
    assert!(!follower.read(each).unwrap());
    assert_eq!(found.len(), 1);
    assert!((found[0] - before).get_milliseconds() >= -1 && found[0] <= Timestamp::now());
}

#[test]
fn an_index_of_another_log_gives_no_times() {
    let mut logs = Logs::new(1000, 2);
    logs.write("a line that was long\n");
    logs.write("another\n");
    std::fs::write(logs.dir.path().join("a.log"), "short\n").unwrap();
    IndexWriter::open(&logs.dir.path().join("a.idx"), 100).unwrap().note(u64::MAX / 2, 50).unwrap();
    assert_eq!(times(&logs), [("short".to_owned(), None)]);
}
