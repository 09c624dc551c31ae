//! Mail servers as they are out there, good and bad, one a row: what phobos-mail makes of each, twice in a row.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::{Machine, smtp};

/// What a server does when it is its turn.
#[derive(Debug, Clone, Copy)]
enum Turn {
    Says(&'static [u8]),
    /// After so many seconds.
    Slowly(u64, &'static [u8]),
    SaysAndHangsUp(&'static [u8]),
    HangsUp,
    /// A line without an end.
    Endless,
    /// An answer without an end.
    Lines,
    /// Nothing more, ever.
    Mute,
}

use Turn::{Endless, HangsUp, Lines, Mute, Says, SaysAndHangsUp, Slowly};

/// A server by its turns.
#[derive(Debug, Clone, Copy)]
struct Server {
    greeting: Turn,
    ehlo: Turn,
    mail: Turn,
    rcpt: Turn,
    data: Turn,
    end: Turn,
    reset: Turn,
    /// Refuses names without a dot in EHLO, as strict servers do.
    wants_dots: bool,
}

const GOOD: Server = Server {
    greeting: Says(b"220 relay ESMTP\r\n"),
    ehlo: Says(b"250-relay\r\n250-SIZE 1000000\r\n250 8BITMIME\r\n"),
    mail: Says(b"250 ok\r\n"),
    rcpt: Says(b"250 ok\r\n"),
    data: Says(b"354 go on\r\n"),
    end: Says(b"250 2.0.0 taken\r\n"),
    reset: Says(b"250 ok\r\n"),
    wants_dots: false,
};

/// A row of the table: a server, and how a mail, then a flush, end; what is said; how many letters wait and are set aside.
struct Row {
    name: &'static str,
    server: Server,
    codes: [i32; 2],
    says: &'static str,
    left: [usize; 2],
}

fn row(name: &'static str, server: Server, codes: [i32; 2], says: &'static str, left: [usize; 2]) -> Row {
    Row { name, server, codes, says, left }
}

/// Those that take mail, each in its way.
fn good() -> Vec<Row> {
    vec![
        row("good", GOOD, [0, 0], "sent through", [0, 0]),
        row("many lines", Server { greeting: Says(b"220-a\r\n220-b\r\n220 c\r\n"), ..GOOD }, [0, 0], "", [0, 0]),
        row(
            "bare codes and line feeds",
            Server { mail: Says(b"250\n"), end: Says(b"250\n"), ..GOOD },
            [0, 0],
            "",
            [0, 0],
        ),
        row("takes it in Latin-1", Server { end: Says(b"250 f\xfcr Sie angenommen\r\n"), ..GOOD }, [0, 0], "", [0, 0]),
        row(
            "a digit of its own",
            Server { end: Says(b"299 taken\r\n"), mail: Says(b"251 x\r\n"), ..GOOD },
            [0, 0],
            "",
            [0, 0],
        ),
        row("slow greeting", Server { greeting: Slowly(3, b"220 x\r\n"), ..GOOD }, [0, 0], "", [0, 0]),
        row("slow to take it", Server { end: Slowly(25, b"250 taken\r\n"), ..GOOD }, [0, 0], "", [0, 0]),
        row("wants a name with a dot", Server { wants_dots: true, ..GOOD }, [0, 0], "", [0, 0]),
        row("knows HELO only", Server { ehlo: Says(b"502 what?\r\n"), ..GOOD }, [0, 0], "", [0, 0]),
    ]
}

/// Those that refuse, or are of no use.
fn bad() -> Vec<Row> {
    let refused = "it says 550 5.7.1 You are on my list";
    vec![
        row(
            "refuses in Latin-1",
            Server { rcpt: Says(b"550 Empf\xe4nger\r\n"), ..GOOD },
            [1, 0],
            "it says 550 Empf",
            [0, 1],
        ),
        row(
            "refuses the sender",
            Server { mail: Says(b"550 5.7.1 You are on my list\r\n"), ..GOOD },
            [1, 0],
            refused,
            [0, 1],
        ),
        row(
            "refuses and hangs up",
            Server { mail: SaysAndHangsUp(b"550 5.7.1 You are on my list\r\n"), ..GOOD },
            [1, 0],
            refused,
            [0, 1],
        ),
        row(
            "refuses RSET too",
            Server { rcpt: Says(b"550 5.7.1 You are on my list\r\n"), reset: Says(b"500 no\r\n"), ..GOOD },
            [1, 0],
            refused,
            [0, 1],
        ),
        row(
            "too large",
            Server { end: Says(b"552 5.3.4 too large\r\n"), ..GOOD },
            [1, 0],
            "552 5.3.4 too large",
            [0, 1],
        ),
        row("greylists", Server { rcpt: Says(b"450 4.2.0 later\r\n"), ..GOOD }, [75, 75], "450 4.2.0 later", [1, 0]),
        row(
            "mailbox full for now",
            Server { end: Says(b"452 4.2.2 full\r\n"), ..GOOD },
            [75, 75],
            "452 4.2.2 full",
            [1, 0],
        ),
        row(
            "too busy",
            Server { greeting: SaysAndHangsUp(b"421 busy\r\n"), ..GOOD },
            [75, 75],
            "it says 421 busy",
            [1, 0],
        ),
        row(
            "no mail here",
            Server { greeting: Says(b"554 no SMTP here\r\n"), ..GOOD },
            [75, 75],
            "554 no SMTP here",
            [1, 0],
        ),
        row(
            "dislikes EHLO",
            Server { ehlo: Says(b"550 bad name\r\n"), ..GOOD },
            [75, 75],
            "[mail] hello sets the name",
            [1, 0],
        ),
        row("hangs up at once", Server { greeting: HangsUp, ..GOOD }, [75, 75], "it closed the connection", [1, 0]),
        row("hangs up at DATA", Server { data: HangsUp, ..GOOD }, [75, 75], "it closed the connection", [1, 0]),
        row("hangs up at the end", Server { end: HangsUp, ..GOOD }, [75, 75], "it closed the connection", [1, 0]),
        row(
            "an endless line",
            Server { greeting: Endless, ..GOOD },
            [75, 75],
            "a line of more than 4096 bytes",
            [1, 0],
        ),
        row(
            "an endless line at the end",
            Server { end: Endless, ..GOOD },
            [75, 75],
            "a line of more than 4096 bytes",
            [1, 0],
        ),
        row("an endless answer", Server { ehlo: Lines, ..GOOD }, [75, 75], "more than 65536 bytes", [1, 0]),
        row(
            "is no mail server",
            Server { greeting: Says(b"SSH-2.0-x\r\n"), ..GOOD },
            [75, 75],
            "it does not speak SMTP",
            [1, 0],
        ),
        row(
            "half an answer",
            Server { ehlo: SaysAndHangsUp(b"250-relay\r\n"), ..GOOD },
            [75, 75],
            "it closed the connection",
            [1, 0],
        ),
    ]
}

/// Takes its turn, and says whether the conversation goes on.
fn take(turn: Turn, stream: &mut TcpStream) -> std::io::Result<bool> {
    match turn {
        Says(text) => stream.write_all(text).map(|()| true),
        Slowly(seconds, text) => {
            std::thread::sleep(Duration::from_secs(seconds));
            stream.write_all(text).map(|()| true)
        }
        SaysAndHangsUp(text) => stream.write_all(text).map(|()| false),
        HangsUp => Ok(false),
        Endless => loop {
            stream.write_all(&[b'2'; 4096])?;
        },
        Lines => loop {
            stream.write_all(b"250-and so on\r\n")?;
        },
        Mute => BufReader::new(stream).read_line(&mut String::new()).map(|_| false),
    }
}

fn converse(server: Server, mut stream: TcpStream, subjects: &Mutex<Vec<String>>) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let mut goes_on = take(server.greeting, &mut stream)?;
    while goes_on {
        let Some(line) = lines.next().transpose()? else { return Ok(()) };
        let (command, rest) = line.split_at_checked(4).unwrap_or((&line, ""));
        goes_on = match command {
            "EHLO" if server.wants_dots && !rest.contains('.') && !rest.contains(':') => {
                take(Says(b"504 5.5.2 need a full name\r\n"), &mut stream)?
            }
            "EHLO" => take(server.ehlo, &mut stream)?,
            "MAIL" => take(server.mail, &mut stream)?,
            "RCPT" => take(server.rcpt, &mut stream)?,
            "RSET" => take(server.reset, &mut stream)?,
            "DATA" => {
                let mut goes_on = take(server.data, &mut stream)?;
                if goes_on {
                    let mut subject = String::new();
                    while let Some(line) = lines.next().transpose()?.filter(|line| line != ".") {
                        if line.starts_with("Subject: ") {
                            subject = line;
                        }
                    }
                    goes_on = take(server.end, &mut stream)?;
                    if matches!(server.end, Says(text) | Slowly(_, text) if text.starts_with(b"2")) {
                        subjects.lock().unwrap().push(subject);
                    }
                }
                goes_on
            }
            "QUIT" => take(SaysAndHangsUp(b"221 bye\r\n"), &mut stream)?,
            _ => take(Says(b"250 ok\r\n"), &mut stream)?,
        };
    }
    Ok(())
}

/// Starts a server; what it has taken, by subject, is in the list.
fn start(server: Server) -> (u16, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let subjects: Arc<Mutex<Vec<String>>> = Arc::default();
    let taken = Arc::clone(&subjects);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let taken = Arc::clone(&taken);
            std::thread::spawn(move || converse(server, stream.unwrap(), &taken).unwrap_or_default());
        }
    });
    (port, subjects)
}

fn count(machine: &Machine, folder: &str) -> usize {
    std::fs::read_dir(machine.path("state").join(folder)).unwrap().count()
}

fn check(row: &Row) {
    let (port, taken) = start(row.server);
    let machine = Machine::with(&format!("smtp://127.0.0.1:{port}"));
    let first = machine.run(&["root@example.org", "a.service"]);
    assert_eq!(first.code, Some(row.codes[0]), "{}: {first:?}", row.name);
    assert!(first.stderr.contains(row.says), "{}: {first:?}", row.name);
    let second = machine.run(&["flush"]);
    assert_eq!(second.code, Some(row.codes[1]), "{}: {second:?}", row.name);
    assert_eq!([count(&machine, "queue"), count(&machine, "refused")], row.left, "{}", row.name);
    let sent = taken.lock().unwrap().len();
    assert_eq!(sent, usize::from(row.codes == [0, 0]), "{}: it is taken once", row.name);
    for ended in [&first, &second] {
        assert!(ended.stderr.lines().all(|line| line.len() < 2000), "{}: {ended:?}", row.name);
    }
}

#[test]
fn every_kind_of_server_is_understood_and_none_holds_anything_up() {
    std::thread::scope(|scope| {
        for row in good().into_iter().chain(bad()) {
            scope.spawn(move || check(&row));
        }
    });
}

#[test]
fn a_server_that_never_says_whether_it_took_a_mail_gets_it_three_times_at_most() {
    let (port, _) = start(Server { end: HangsUp, ..GOOD });
    let machine = Machine::with(&format!("smtp://127.0.0.1:{port}"));
    assert_eq!(machine.run(&["a.service"]).code, Some(75));
    assert_eq!(machine.run(&["flush"]).code, Some(75), "the second attempt");
    let waits = machine.run(&["flush"]);
    assert!(waits.stderr.contains("the next attempt is not before "), "{waits:?}");
    let set_aside = machine.run(&["flush", "--now"]);
    assert_eq!(set_aside.code, Some(1), "{set_aside:?}");
    assert_eq!(machine.run(&["flush", "--now"]).code, Some(0));
    let list = machine.run(&["list"]).stdout;
    assert!(list.contains("  set aside  ") && list.contains("it closed the connection"), "{list}");
}

#[test]
fn a_letter_at_which_the_server_hangs_up_holds_nothing_up() {
    let (port, _) = start(Server { mail: HangsUp, ..GOOD });
    let machine = Machine::with(&format!("smtp://127.0.0.1:{port}"));
    for unit in ["a.service", "b.service"] {
        assert_eq!(machine.run(&[unit]).code, Some(75));
    }
    let good = smtp::Server::start(smtp::Manner::Takes);
    machine.write("phobos.toml", &format!("[mail]\ntransport = 'smtp://127.0.0.1:{}'\n", good.port));
    assert_eq!(machine.run(&["flush", "--now"]).code, Some(0));
    assert_eq!(good.taken().len(), 2);
}

#[test]
fn a_mute_server_is_given_up_within_the_time_of_a_run() {
    let (port, _) = start(Server { end: Mute, ..GOOD });
    let machine = Machine::with(&format!("smtp://127.0.0.1:{port}"));
    assert_eq!(machine.run(&["root@example.org", "a.service"]).code, Some(75));
    let began = Instant::now();
    let ended = machine.run(&["flush", "--limit", "4s"]);
    assert_eq!(ended.code, Some(75), "{ended:?}");
    assert!(began.elapsed() < Duration::from_secs(15) && ended.stderr.contains("no answer within "), "{ended:?}");
}

#[test]
fn this_machine_calls_itself_as_the_settings_say() {
    let (port, taken) = start(Server { wants_dots: true, ..GOOD });
    let machine = Machine::with(&format!("smtp://127.0.0.1:{port}"));
    machine.write("phobos.toml", &format!("[mail]\ntransport = 'smtp://127.0.0.1:{port}'\nhello = 'nas'\n"));
    let refused = machine.run(&["a.service"]);
    assert_eq!(refused.code, Some(75), "{refused:?}");
    assert!(refused.stderr.contains("(to \"EHLO nas\"; [mail] hello sets the name)"), "{refused:?}");
    machine.write("phobos.toml", &format!("[mail]\ntransport = 'smtp://127.0.0.1:{port}'\nhello = 'nas.lan'\n"));
    assert_eq!(machine.run(&["flush"]).code, Some(0));
    assert_eq!(taken.lock().unwrap().len(), 1);
}
