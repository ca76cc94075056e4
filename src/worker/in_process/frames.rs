//! Of a stack in words the part that is the worker's own: between the panic's machinery above and ours below.

/// The longest text of a stack.
const MAX: usize = 8 << 10;

/// Where ours begins: what polls and drops user code.
const OURS: [&str; 2] = ["regrow::worker::in_process::guard", "regrow::worker::in_process::run::"];

/// What stands above whoever panicked, by how the name of a function begins.
const MACHINERY: [&str; 7] = [
    "core::panicking::",
    "std::panicking::",
    "std::sys::backtrace::__rust_end_short_backtrace",
    "__rustc::rust_begin_unwind",
    "rust_begin_unwind",
    "core::option::",
    "core::result::",
];

/// The frames between the panic's machinery and ours.
pub(super) fn own_frames(whole: &str) -> String {
    let lines: Vec<&str> = whole.lines().collect();
    let ours = |line: &&str| !is_place(line) && OURS.iter().any(|word| line.contains(word));
    let end = lines.iter().position(ours).unwrap_or(lines.len());
    // Only the first of it: what was caught on the way, and what a type's name holds, is the worker's own.
    let machinery = |line: &&str| MACHINERY.iter().any(|word| function(line).starts_with(word));
    let begin = lines[..end].iter().position(machinery).map_or(0, |first| {
        let of_it = |line: &&&str| is_place(line) || machinery(line);
        first + lines[first..end].iter().take_while(of_it).count()
    });
    // Code that was inlined into ours has no frame of its own; ours names its type then.
    let with_place = |at: usize| at + 1 + usize::from(lines.get(at + 1).is_some_and(|line| is_place(line)));
    let end = if begin < end { end } else { with_place(end).min(lines.len()) };
    let mut own = String::new();
    for line in &lines[begin..end] {
        if own.len() + line.len() > MAX {
            break;
        }
        own.push_str(line);
        own.push('\n');
    }
    own
}

/// The file and line of the frame above.
fn is_place(line: &str) -> bool {
    line.trim_start().starts_with("at ")
}

/// The name without the frame's number.
fn function(line: &str) -> &str {
    line.split_once(": ").map_or(line, |(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOOK: &str = "   0: regrow::worker::in_process::panic::note
   1: <alloc::boxed::Box<F> as core::ops::function::Fn<Args>>::call
   2: std::panicking::panic_with_hook
             at /rustc/1/library/std/src/panicking.rs:833:13
   3: std::sys::backtrace::__rust_end_short_backtrace::<std::panicking::panic_handler::{closure#0}, !>
             at /rustc/1/library/std/src/sys/backtrace.rs:182:18
   4: __rustc::rust_begin_unwind
             at /rustc/1/library/std/src/panicking.rs:689:5
   5: core::panicking::panic_fmt
             at /rustc/1/library/core/src/panicking.rs:80:14
   6: core::option::unwrap_failed
             at /rustc/1/library/core/src/option.rs:2236:5
";

    #[test]
    fn a_panic_in_drop_shows_who_was_dropped() {
        let own = "   7: own::act
             at ./src/own.rs:3:78
   8: <own::Odd as core::ops::drop::Drop>::drop
   9: core::ptr::drop_in_place<core::option::Option<own::Odd>>
  10: core::mem::drop
";
        let below = "  11: <regrow::worker::in_process::run::Home<W> as regrow::Owned>::clear
  12: std::panicking::catch_unwind::do_call
  13: std::panic::catch_unwind
";
        assert_eq!(own_frames(&format!("{HOOK}{own}{below}")), own);
    }

    #[test]
    fn what_the_worker_caught_on_the_way_is_its_own() {
        let own = "   7: own::inner
   8: std::panicking::catch_unwind::do_call
   9: own::outer
";
        assert_eq!(own_frames(&format!("{HOOK}{own}  10: regrow::worker::in_process::guard::around")), own);
    }

    #[test]
    fn code_that_was_inlined_into_ours_is_shown_with_it() {
        let ours = "   7: regrow::worker::in_process::run::whole::<own::Web>::{closure#0}\n             at ./src/own.rs:3:78\n";
        let below = "   8: regrow::worker::in_process::guard::around\n";
        assert_eq!(own_frames(&format!("{HOOK}{ours}{below}")), ours);
        assert_eq!(own_frames(HOOK), "", "nothing is left below");
    }

    #[test]
    fn without_names_everything_is_shown_up_to_the_longest() {
        assert_eq!(own_frames("   0: <unknown>\n"), "   0: <unknown>\n");
        assert!(own_frames(&"   0: <unknown>\n".repeat(10_000)).len() <= MAX + 20);
    }
}
