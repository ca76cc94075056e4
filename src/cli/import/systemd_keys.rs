//! Keys of units without an equal, and why.

/// Whole keys.
const KEYS: [(&[&str], &str); 23] = [
    (
        &["Requires", "Wants", "BindsTo", "Requisite", "Upholds", "PartOf", "ConsistsOf"],
        "regrow starts all its workers anyway; those that fall together belong to one supervisor, with `strategy`",
    ),
    (&["Before"], "write `after` at the other one"),
    (&["Conflicts"], "regrow has no workers that exclude each other; `enabled = false` keeps one off"),
    (&["OnFailure", "OnSuccess"], "`regrow events -f` tells ends and failures; a program can follow it"),
    (
        &["RestartForceExitStatus", "RestartMode", "RestartKillSignal"],
        "`restart` and exit_codes say after which ends it is started again",
    ),
    (
        &["EnvironmentFile"],
        "regrow reads no files of variables: write its lines as env.NAME, and secret ones as secrets.NAME = { file = \
         \"...\" }",
    ),
    (&["UnsetEnvironment"], "a worker sees only PATH, HOME, USER, LANG, TZ, `env` and inherit_env"),
    (
        &[
            "LoadCredential",
            "LoadCredentialEncrypted",
            "SetCredential",
            "SetCredentialEncrypted",
            "ImportCredential",
        ],
        "secrets.NAME = { file = \"...\" } gives it as a variable",
    ),
    (
        &["ExecStartPre", "ExecCondition"],
        "regrow runs one command: put this into a script that ends in `exec` of the program, or into a worker of its \
         own with restart = \"temporary\" and `after`",
    ),
    (
        &["ExecStartPost"],
        "regrow runs nothing after a start; a worker with `after` starts once this one is ready",
    ),
    (&["ExecStopPost"], "regrow runs nothing after an end; the program's own script can"),
    (
        &["StandardOutput", "StandardError", "StandardInput", "TTYPath", "TTYReset"],
        "regrow keeps output in logs/ of its state_dir; log.to = \"stdout\" passes it on to whatever runs regrow",
    ),
    (
        &[
            "SyslogIdentifier",
            "SyslogFacility",
            "SyslogLevel",
            "SyslogLevelPrefix",
            "LogLevelMax",
            "LogExtraFields",
        ],
        "regrow writes no syslog; log.to = \"stdout\" leaves it to whatever runs regrow",
    ),
    (
        &["LogRateLimitIntervalSec", "LogRateLimitBurst"],
        "log.on_full says what happens to a worker that writes too fast",
    ),
    (
        &["RuntimeDirectory", "RuntimeDirectoryMode", "RuntimeDirectoryPreserve"],
        "regrow makes no such directory; {state_dir} is its workers' own",
    ),
    (
        &[
            "StateDirectory",
            "StateDirectoryMode",
            "CacheDirectory",
            "CacheDirectoryMode",
            "LogsDirectory",
            "LogsDirectoryMode",
            "ConfigurationDirectory",
            "ConfigurationDirectoryMode",
        ],
        "regrow makes no such directory; each worker has one of its own, REGROW_STATE_DIR",
    ),
    (
        &["DynamicUser", "SupplementaryGroups", "PAMName"],
        "a worker runs as a user that is there, with that user's groups",
    ),
    (
        &["Sockets", "FileDescriptorStoreMax", "FileDescriptorStorePreserve", "BusName", "OpenFile"],
        "regrow opens no sockets or files for its workers",
    ),
    (
        &[
            "SendSIGKILL",
            "SendSIGHUP",
            "FinalKillSignal",
            "WatchdogSignal",
            "TimeoutStopFailureMode",
            "TimeoutAbortSec",
        ],
        "after stop.timeout the whole tree is killed, always",
    ),
    (&["KillMode"], "after stop.timeout the whole tree is killed, always"),
    (
        &["OOMPolicy", "ManagedOOMSwap", "ManagedOOMMemoryPressure", "ManagedOOMPreference"],
        "an end for want of memory is a failure like others",
    ),
    (
        &["LimitNPROC"],
        "the kernel counts this for all processes of a user; limits.processes counts the worker's own",
    ),
    (
        &["Also", "Alias", "DefaultInstance"],
        "regrow has one name for a worker, and starts all that are enabled",
    ),
];

/// Beginnings of keys.
const STARTS: [(&[&str], &str); 6] = [
    (&["Condition", "Assert"], "regrow starts without looking; a script in front of the program can look"),
    (
        &[
            "Protect",
            "Private",
            "Restrict",
            "SystemCall",
            "Capability",
            "Ambient",
            "SecureBits",
            "MemoryDeny",
            "LockPersonality",
            "ReadWrite",
            "ReadOnly",
            "Inaccessible",
            "ProcSubset",
            "RootDirectory",
            "RootImage",
            "Bind",
            "Device",
            "IPAddress",
            "NetworkNamespace",
            "RemoveIPC",
            "KeyringMode",
            "Exec",
            "NoExec",
            "TemporaryFileSystem",
            "Mount",
            "AppArmor",
            "SELinux",
            "Smack",
            "UtmpIdentifier",
            "Personality",
            "SocketBind",
            "ExtensionImages",
        ],
        "regrow does not fence files, devices or calls off; if it runs under systemd itself, its own unit can",
    ),
    (
        &[
            "CPU",
            "IO",
            "BlockIO",
            "Memory",
            "Tasks",
            "Slice",
            "Delegate",
            "StartupCPU",
            "AllowedCPUs",
            "NUMA",
            "Numa",
        ],
        "regrow bounds memory, cores and processes: limits.memory, limits.cpu, limits.processes",
    ),
    (&["Limit"], "regrow bounds memory, cores, processes and open files only"),
    (&["OOM"], "an end for want of memory is a failure like others"),
    (&["X-"], "a word of another program"),
];

/// Why it has none.
pub(super) fn why(section: &str, key: &str) -> &'static str {
    if let Some((_, why)) = KEYS.iter().find(|(keys, _)| keys.contains(&key)) {
        return why;
    }
    if let Some((_, why)) =
        STARTS.iter().find(|(starts, _)| starts.iter().any(|start| key.starts_with(start)))
    {
        return why;
    }
    match section {
        "Unit" | "Service" | "Install" => "regrow has nothing like it",
        _ => "regrow reads only services",
    }
}

/// systemd's names of exit codes.
pub(super) fn exit_code(text: &str) -> Option<u8> {
    const NAMES: [(&str, u8); 23] = [
        ("SUCCESS", 0),
        ("FAILURE", 1),
        ("INVALIDARGUMENT", 2),
        ("NOTIMPLEMENTED", 3),
        ("NOPERMISSION", 4),
        ("NOTINSTALLED", 5),
        ("NOTCONFIGURED", 6),
        ("NOTRUNNING", 7),
        ("USAGE", 64),
        ("DATAERR", 65),
        ("NOINPUT", 66),
        ("NOUSER", 67),
        ("NOHOST", 68),
        ("UNAVAILABLE", 69),
        ("SOFTWARE", 70),
        ("OSERR", 71),
        ("OSFILE", 72),
        ("CANTCREAT", 73),
        ("IOERR", 74),
        ("TEMPFAIL", 75),
        ("PROTOCOL", 76),
        ("NOPERM", 77),
        ("CONFIG", 78),
    ];
    let named = NAMES.iter().find(|(name, _)| *name == text.trim_start_matches("EX_"));
    text.parse().ok().or_else(|| named.map(|(_, code)| *code))
}
