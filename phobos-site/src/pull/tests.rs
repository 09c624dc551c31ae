//! Hosts as they are written in pull.d, right and wrong.

use super::*;

fn host(text: &str) -> Result<Host, String> {
    let name = HostName::try_from("luv".to_owned()).unwrap();
    Host::parse(&name, text).map_err(|error| error.message().to_owned())
}

fn source(text: &str) -> Result<Source, String> {
    Source::try_from(text.to_owned()).map_err(|error| error.to_string())
}

#[test]
fn the_defaults_keep_everything_and_delete_at_most_half() {
    let host = host("source = ['root@luv:/home/']").unwrap();
    assert!(host.numeric_ids && host.hard_links && host.acls && host.xattrs && host.delete);
    assert!(!host.one_file_system && !host.optional);
    assert_eq!(host.stale_after.0, Duration::from_secs(7 * 86400));
    assert_eq!(host.success, [Tolerated::Vanished]);
    assert_eq!(host.lock().to_string(), "holding/luv");
    let may_delete = |files| host.max_delete.of(files);
    assert_eq!([0, 1, 2, 100, 101, 1000].map(may_delete), [0, 0, 1, 99, 50, 500]);
    assert_eq!([0, 5, 50].map(|files| MaxDelete::Files(10).of(files)), [0, 4, 10]);
    assert_eq!(MaxDelete::Percent(100).of(1000), 999, "never all");
}

#[test]
fn a_name_never_leads_out_of_the_holding_space() {
    for good in ["luv", "luv.lan", "9", "a-b_c"] {
        assert!(HostName::try_from(good.to_owned()).is_ok(), "{good}");
    }
    let long = "a".repeat(65);
    for bad in ["", ".", "..", "../luv", "a/b", "/luv", "-luv", ".phobos", "a b", "a\nb", "lüv", "a\0", &long] {
        assert!(HostName::try_from(bad.to_owned()).is_err(), "{bad}");
    }
}

#[test]
fn sources_are_told_apart_and_have_a_place_each() {
    let place = |text: &str| source(text).map(|source| source.place().display().to_string());
    assert_eq!(place("root@luv:/home/").unwrap(), "home");
    assert_eq!(place("luv:/").unwrap(), "");
    assert_eq!(place("[fe80::1%eth0]://srv//a/./b").unwrap(), "srv/a/b");
    for zone in ["br-lan", "eth0.10", "wg_home"] {
        assert_eq!(place(&format!("[fe80::1%{zone}]:/srv")).unwrap(), "srv", "{zone}");
    }
    assert_eq!(place("rsync://luv:8730/music").unwrap(), "music");
    assert_eq!(place("rsync://backup@[::1]/music/old/").unwrap(), "music/old");
    assert_eq!(place("/srv/a b").unwrap(), "srv/a b");
    let forms = "is no source such as root@luv:/home/, rsync://luv/module/ or /srv/";
    let special = "must not have *, ?, [, ], \\ or control characters in it; exclude what is not wanted";
    for (text, reason) in [
        ("luv", forms),
        ("luv:home", forms),
        ("", forms),
        ("luv:/a/../b", "must not have .. in it"),
        ("/..", "must not have .. in it"),
        ("luv:/home/*", special),
        ("/a\nb", special),
        ("-oProxyCommand=x:/home", "has no good host"),
        ("a b:/home", "has no good host"),
        ("[::1:/home", "has no good host"),
        ("-l@luv:/home", "has no good user"),
        ("$(x)@luv:/home", "has no good user"),
        ("rsync://luv/", "names no module"),
        ("rsync://luv/../x", "names no module"),
        ("rsync://luv:0/x/", "has no good port"),
        ("rsync://luv:x/x/", "has no good port"),
    ] {
        assert_eq!(source(text).unwrap_err(), format!("{text:?} {reason}"));
    }
}

#[test]
fn sources_of_one_origin_share_a_connection() {
    let text = "source = ['luv:/home/', 'luv:/etc', 'rsync://luv:8730/music/a/', 'rsync://luv:8730/music/b', \
                'jon@luv:/srv/x y/']\nuser = 'root'";
    let host = host(text).unwrap();
    let arguments: Vec<_> = host.connections().iter().map(|connection| host.arguments(connection)).collect();
    assert_eq!(
        arguments,
        [
            ["root@luv:/home/", ":/etc"].as_slice(),
            &["rsync://luv:8730/music/a/", "rsync://luv:8730/music/b"],
            &["jon@luv:/srv/x y/"]
        ]
    );
    let landings: Vec<_> =
        host.connections().iter().map(|connection| host.landing(connection.origin).display().to_string()).collect();
    assert_eq!(landings, ["", "music", ""]);
}

#[test]
fn a_restricted_key_is_asked_for_paths_below_its_root() {
    let host = host("source = ['luv:/srv/a/', 'luv:/srv/b c']\nroot = '/srv'").unwrap();
    let connection = &host.connections()[0];
    assert_eq!(host.arguments(connection), ["root@luv:a/", ":b c"]);
    assert_eq!(host.landing(connection.origin), Path::new("srv"));
    let whole = super::tests::host("source = ['luv:/srv/']\nroot = '/srv'").unwrap();
    assert_eq!(whole.arguments(&whole.connections()[0]), ["root@luv:."]);
}

#[test]
fn a_host_in_between_is_a_host_with_a_user_and_a_port() {
    let jump = |text: &str| Jump::try_from(text.to_owned()).map(|jump| (jump.user, jump.address, jump.port));
    let user = |name: &str| Some(User(name.to_owned()));
    assert_eq!(jump("gate").unwrap(), (None, "gate".to_owned(), None));
    assert_eq!(jump("jon@gate.lan:2222").unwrap(), (user("jon"), "gate.lan".to_owned(), Some(2222)));
    assert_eq!(jump("root@[fe80::1%br-lan]:22").unwrap(), (user("root"), "fe80::1%br-lan".to_owned(), Some(22)));
    for bad in ["", "-oX", "gate:0", "gate:x", "a b", "gate/x", "root@", "gate,other"] {
        assert!(
            jump(bad).unwrap_err().to_string().ends_with("; a host in between is root@gate or root@gate:2222"),
            "{bad}"
        );
    }
}

#[test]
fn every_mistake_names_its_key() {
    let cases = [
        ("source = []", "source: name at least one, such as root@luv:/home/"),
        ("source = ['luv:/a', 'luv:/a/b']", "source: a and a/b are copied into each other"),
        ("source = ['luv:/', '/srv']", "source:  and srv are copied into each other"),
        ("source = ['luv:/a', '/b']", "source: give this machine's own folders a host of their own"),
        ("source = ['luv:/a']\nroot = '/b'", "root: /a is not below /b"),
        ("source = ['luv:/a']\nhost = 'chew'", "host: the file's name says luv"),
        ("source = ['luv:/a']\nport = 0", "port: there is no port 0"),
        ("source = ['luv:/a']\ntime-limit = '0s'", "time-limit: it must be longer than nothing"),
        (
            "source = ['luv:/a']\nssh-options = ['stricthostkeychecking=no']",
            "stricthostkeychecking is set by phobos-pull itself and cannot be changed",
        ),
        (
            "source = ['luv:/a']\nssh-options = ['ProxyJump=gate']",
            "ProxyJump would start an ssh without the key and the known hosts of phobos; name the host in between \
             with jump = \"root@gate\"",
        ),
        ("source = ['luv:/a']\nssh-options = ['-v']", "\"-v\" is no option of ssh such as ConnectTimeout=5"),
        ("source = ['luv:/a']\nmax-delete = '101%'", "\"101%\" is no share such as \"50%\""),
        ("source = ['luv:/a']\nmax-delete = -1", "-1 is below 0"),
        (
            "source = ['luv:/a']\nsuccess = [12]",
            "12 cannot count as a success; only 23 (partial) and 24 (vanished) can",
        ),
        ("source = ['luv:/a']\nexclude = ['']", "\"\" is no pattern"),
    ];
    for (text, want) in cases {
        assert_eq!(host(text).unwrap_err(), want, "{text}");
    }
}

#[test]
fn fuzz_pull_host() {
    phobos_fuzz::target("pull_host", &[b"source = ['root@luv:/home/', 'rsync://luv/music/', '/srv/']\nroot = '/home'\nport = 2222\njump = 'me@gate:22'\nmax-delete = 500\nexclude = ['*.tmp']\n"], |input| {
        let text = String::from_utf8_lossy(input);
        let name = HostName::try_from("luv".to_owned()).unwrap();
        drop(Host::parse(&name, &text));
    });
}
