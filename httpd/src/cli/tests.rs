use super::*;
use crate::encoding::Coding;
use crate::listing::ListingFormat;

const GOOD: [&str; 10] = [
    "tagwire",
    "serve",
    "--interface",
    "macvlan0",
    "--vlan",
    "123",
    "--address",
    "192.168.123.150/24",
    "--www-root",
    "/www",
];

fn with(more: &[&str]) -> Result<Command, CliError> {
    parse(GOOD.iter().chain(more))
}

fn usage(more: &[&str]) -> String {
    match with(more) {
        Err(CliError::Usage(line)) => line,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_line_of_the_readme() {
    let Ok(Command::Serve(config)) = with(&[]) else { panic!("it is good") };
    assert_eq!(
        *config,
        Config {
            interface: "macvlan0".to_owned(),
            vlans: vec![VlanConfig {
                id: "123".parse().unwrap(),
                pcp: 0,
                mtu: None,
                addresses: vec![parse_address("192.168.123.150/24").unwrap()],
                gateways: vec![],
                slaac: false,
                acd: Acd::Optimistic,
            }],
            port: 80,
            sites: vec![SiteSettings {
                compress: Some([Coding::Gzip].into()),
                compress_min_size: Some(1024),
                listing: Some(ListingFormat::Off),
                builtin_json: Some(false),
                ..SiteSettings::new("/www".into())
            }],
            limits: Limits::DEFAULT,
            cache_size: 512 << 20,
            download_memory: 64 << 20,
            preload: false,
            watch: true,
            workers: 1,
            driver: DriverChoice::Auto,
            busy_poll: Duration::ZERO,
            congestion: Algorithm::Cubic,
            ecn: true,
            fast_open: false,
            memory_budget: 256 << 20,
            rto_min: Duration::from_millis(200),
            control: None,
            access_log: AccessLogConfig { target: Target::Off, format: Format::Combined },
            sandbox: SandboxMode::BestEffort,
            sandbox_read: Vec::new(),
            file: None,
            admin: None,
            drain: Duration::from_secs(10),
            log_format: LogFormat::Text,
            log_filter: Targets::new().with_default(LevelFilter::INFO),
            arguments: GOOD.map(OsString::from).to_vec(),
        }
    );
}

#[test]
fn values_from_the_environment_may_end_in_a_newline() {
    // clap hands a variable to the same parsers, so arguments stand in for it here.
    let more = [
        "--gateway",
        "192.168.123.1\n",
        "--port",
        " 8080\n",
        "--cache-size",
        "1g\n",
        "--watch",
        "off\n",
        "--workers",
        "2\n",
        "--pcp",
        "5\n",
        "--mtu",
        "9000\n",
        "--congestion",
        "bbr\n",
        "--acd",
        "strict\n",
        "--ecn",
        "off\n",
        "--fast-open",
        "--preload",
        "--memory-budget",
        "64m\n",
        "--download-memory",
        "32m\n",
        "--rto-min",
        "50\n",
        "--busy-poll",
        "50\n",
        "--driver",
        "poll\n",
        "--compress",
        "br,gzip\n",
        "--compress-min-size",
        "4k\n",
        "--listing",
        "auto\n",
        "--builtin-json",
        "--control",
        "/run/c\n",
        "--access-log",
        "/var/log/access\n",
        "--access-log-format",
        "json\n",
        "--log-format",
        "json\n",
        "--log-level",
        "debug\n",
    ];
    let Ok(Command::Serve(config)) = with(&more) else { panic!("they are good") };
    let vlan = &config.vlans[0];
    assert_eq!(vlan.gateways, [IpAddr::from([192, 168, 123, 1])]);
    assert_eq!((vlan.pcp, vlan.mtu, vlan.acd), (5, Some(9000), Acd::Strict));
    assert_eq!((config.workers, config.congestion), (2, Algorithm::Bbr));
    assert!(!config.ecn && config.fast_open && config.preload);
    assert_eq!((config.memory_budget, config.download_memory), (64 << 20, 32 << 20));
    assert_eq!(config.rto_min, Duration::from_millis(50));
    assert_eq!((config.port, config.cache_size, config.watch), (8080, 1 << 30, false));
    let site = &config.sites[0];
    assert_eq!(site.compress.as_deref(), Some(&[Coding::Brotli, Coding::Gzip][..]));
    assert_eq!((site.compress_min_size, site.listing), (Some(4096), Some(ListingFormat::Auto)));
    assert_eq!(site.builtin_json, Some(true));
    assert_eq!(config.busy_poll, Duration::from_micros(50));
    assert_eq!(config.driver, DriverChoice::Poll);
    assert_eq!(config.control, Some("/run/c".into()));
    assert_eq!(
        (config.log_format, config.log_filter),
        (LogFormat::Json, Targets::new().with_default(LevelFilter::DEBUG))
    );
    let target = Target::File("/var/log/access".into());
    assert_eq!(config.access_log, AccessLogConfig { target, format: Format::Json });
    let good = [
        "tagwire",
        "serve",
        "--interface",
        "m0\n",
        "--vlan",
        "0\n",
        "--address",
        "10.0.0.1/8\n",
        "--www-root",
        "/www\n",
        "--gateway",
        "",
        "--control",
        "\n",
    ];
    let Ok(Command::Serve(config)) = parse(good) else { panic!("they are good") };
    assert_eq!((&*config.interface, config.vlans[0].id), ("m0", VlanStack::UNTAGGED));
    assert_eq!(config.sites[0].www_root, PathBuf::from("/www"));
    assert_eq!((&config.vlans[0].gateways, config.control), (&vec![], None));
}

#[test]
fn mistakes_are_one_clear_line() {
    for (more, part) in [
        (&["--gateway", "10.0.0.1"][..], "gateway 10.0.0.1 is not in the network of"),
        (&["--gateway", "192.168.123.150"], "is not a router's address"),
        (&["--gateway", "192.168.123.1/24"], "without prefix"),
        (&["--port", "0"], "is no port"),
        (&["--cache-size", "lots"], "is no size"),
        (&["--compress", "deflate"], "use off, or some of gzip, br and zstd"),
        (&["--compress-min-size", "tiny"], "is no size"),
        (&["--listing", "on"], "use off, html, json or auto"),
        (&["--watch", "on"], "use auto or off"),
        (&["--workers", "0"], "use 1 to 64, or auto"),
        (&["--workers", "65"], "use 1 to 64, or auto"),
        (&["--pcp", "8"], "use 0 to 7"),
        (&["--mtu", "9001"], "use 576 to 9000"),
        (&["--mtu", "1279", "--slaac"], "give 1280 or more"),
        (&["--mtu", "1279", "--address", "fd00::5/64"], "give 1280 or more"),
        (&["--acd", "lax"], "use optimistic or strict"),
        (&["--memory-budget", "1m"], "give 16m or more"),
        (&["--download-memory", "1m"], "give 4m or more"),
        (&["--ecn", "maybe"], "use true or false"),
        (&["--congestion", "reno"], "use cubic or bbr"),
        (&["--rto-min", "0"], "use milliseconds, 1 to 1000"),
        (&["--address", "192.168.123.150/16"], "given twice"),
        (&["--address", "fd00::1"], "has no prefix length; write it as fd00::1/64"),
        (&["--gateway", "fe80::1,fe80::2"], "a second one"),
        (&["--log-format", "xml"], "use text or json"),
        (&["--log-level", "verbose"], "use off, error, warn, info or debug"),
        (&["--log-level", ""], "use off, error, warn, info or debug"),
        (&["--log-level", "info,tagwire_netstack"], "use off, error, warn, info or debug"),
        (&["--log-level", "tagwire_netstack=loud"], "use off, error, warn, info or debug"),
        (&["--access-log-format", "xml"], "use combined or json"),
        (&["--busy-poll", "1h"], "microseconds"),
        (&["--driver", "epoll"], "use auto, io_uring or poll"),
        (&["--wrokers", "1"], "--wrokers"),
    ] {
        let line = usage(more);
        assert!(line.contains(part) && !line.contains('\n'), "{more:?}: {line}");
    }
    let without = |at: usize| {
        let mut line = GOOD.to_vec();
        line.drain(at..at + 2);
        match parse(line) {
            Err(CliError::Usage(line)) => line,
            other => panic!("{other:?}"),
        }
    };
    assert!(without(6).contains("--address <ADDRESS>"), "{}", without(6));
    let mut line = GOOD.to_vec();
    line[7] = "192.168.123.150";
    let Err(CliError::Usage(line)) = parse(line) else { panic!("no prefix") };
    assert!(line.contains("has no prefix length; write it as 192.168.123.150/24"), "{line}");
    assert!(matches!(parse(["tagwire"]), Err(CliError::Usage(line)) if !line.contains('\n')));
}

#[test]
fn addresses_of_both_families_in_two_tags() {
    let line = [
        "tagwire",
        "serve",
        "--interface",
        "m0",
        "--vlan",
        "100.200",
        "--address",
        "192.0.2.5/24, 2001:db8::5/64\n",
        "--address",
        "198.51.100.5/24",
        "--gateway",
        "192.0.2.1,fe80::1",
        "--slaac",
        "--www-root",
        "/www",
        "--workers",
        "auto",
    ];
    let Ok(Command::Serve(config)) = parse(line) else { panic!("they are good") };
    let vlan = &config.vlans[0];
    assert_eq!(vlan.id, VlanStack::stacked(100, 200).unwrap());
    let addresses: Vec<_> = vlan.addresses.iter().map(IpCidr::to_string).collect();
    assert_eq!(addresses, ["192.0.2.5/24", "2001:db8::5/64", "198.51.100.5/24"]);
    assert_eq!(vlan.gateways.len(), 2);
    assert!(vlan.slaac && (1..=MAX_WORKERS).contains(&config.workers));
    // Router advertisements alone will do; nothing at all will not.
    let alone = ["tagwire", "serve", "--interface", "m0", "--www-root", "/", "--slaac"];
    assert!(
        matches!(parse(alone), Ok(Command::Serve(config)) if config.vlans[0].addresses.is_empty())
    );
    assert!(matches!(parse(&alone[..6]), Err(CliError::Usage(line)) if line.contains("--slaac")));
}

#[test]
fn help_has_examples() {
    let Err(CliError::Asked(help)) = parse(["tagwire", "serve", "--help"]) else {
        panic!("help was asked for")
    };
    assert!(help.contains("Examples:") && help.contains("HOST_INTERFACE"));
}

#[test]
fn a_lame_duck_is_asked_for_by_its_socket_and_may_be_waited_for() {
    let lame_duck = |more: &[&str]| {
        let arguments = ["tagwire", "lame-duck", "--control", "/run/c"];
        parse(arguments.iter().chain(more))
    };
    let command = |on, seconds| {
        let wait = Duration::from_secs(seconds);
        Command::LameDuck { control: "/run/c".into(), on, wait }
    };
    assert_eq!(lame_duck(&[]).unwrap(), command(true, 0));
    assert_eq!(lame_duck(&["--for", "5s"]).unwrap(), command(true, 5));
    assert_eq!(lame_duck(&["--off"]).unwrap(), command(false, 0));
    for wrong in [&["--for", "1h"][..], &["--for", "3601"], &["--for", "5s", "--off"]] {
        let error = lame_duck(wrong).unwrap_err();
        assert!(matches!(&error, CliError::Usage(line) if line.contains("--for")), "{error:?}");
    }
}

#[test]
fn status_and_reload_take_its_socket() {
    let command = parse(["tagwire", "status", "--control", "/run/c", "--json"]);
    assert_eq!(command.unwrap(), Command::Status { control: "/run/c".into(), json: true });
    let command = parse(["tagwire", "reload", "--control", "/run/c"]);
    assert_eq!(command.unwrap(), Command::Reload { control: "/run/c".into() });
}
