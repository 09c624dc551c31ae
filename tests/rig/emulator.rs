//! QEMU itself, from Debian 13 whatever this machine is, and whether it may use this machine's processor.
//!
//! Under emulation, Debian 12's needs 24 ms to start a program, Debian 13's 5 ms, and the scenarios take 1.4 times as long with the
//! former. So the latter is unpacked into the cache, without being installed, and run by its own loader with its own
//! libraries.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use phobos_core::exec::Invocation;

use crate::host;
use crate::image::{self, Image};

/// What is unpacked.
const PACKAGES: [&str; 2] = ["qemu-system-x86", "qemu-utils"];

/// Counts up when something else is to be unpacked from the same packages.
const EDITION: u32 = 1;

/// Where its libraries are in there; its modules are below.
const LIBRARIES: &str = "usr/lib/x86_64-linux-gnu";

/// The variable that tells QEMU where its modules are.
const MODULES: &str = "QEMU_MODULE_DIR";

/// What starts a program so that it dies with the thread that started it.
const BOUND: &str = "setpriv";

/// How fast the virtual processor is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Accelerator {
    /// The host's processor.
    Kvm,
    /// Emulation.
    Tcg,
}

/// QEMU, and how it runs a machine here.
#[derive(Debug, Clone)]
pub(crate) struct Emulator {
    folder: PathBuf,
    pub(crate) accelerator: Accelerator,
}

impl Accelerator {
    /// QEMU's name for it.
    fn name(self) -> &'static str {
        match self {
            Self::Kvm => "kvm",
            Self::Tcg => "tcg",
        }
    }

    /// The value of QEMU's option `-accel`.
    pub(crate) fn option(self) -> &'static str {
        match self {
            Self::Kvm => "kvm",
            // With several threads the guest's kernel sometimes panics while it patches its own code.
            Self::Tcg => "tcg,thread=single,tb-size=512",
        }
    }
}

impl Emulator {
    /// Finds QEMU in the cache or unpacks it, and finds out how it can run the kernel of `image`.
    pub(crate) fn get(cache: &Path, image: &Image) -> Result<Self> {
        let _lock = host::lock(&cache.join("emulator.lock"))?;
        let folder = cache.join(format!("emulator-{EDITION}"));
        if !folder.exists() {
            image::sweep(cache, "emulator-")?;
            let unfinished = cache.join("emulator-unfinished");
            let call = image::bootstrap("extract", &PACKAGES).arg("trixie").arg(&unfinished).arg(image::debian()?);
            host::run(call, Duration::from_secs(600)).context("cannot unpack QEMU")?;
            fs::rename(&unfinished, &folder)?;
        }
        let mut emulator = Self { folder, accelerator: Accelerator::Tcg };
        emulator.accelerator = emulator.accelerator_for(cache, image)?;
        Ok(emulator)
    }

    /// What a saved state depends on here.
    pub(crate) fn key(&self) -> impl std::hash::Hash {
        (EDITION, self.accelerator)
    }

    /// Makes an empty disk over `below`, which is never written to.
    pub(crate) fn disk_over(&self, below: &Path, format: &str, disk: &Path) -> Result<()> {
        self.img(|call| call.args(["create", "-q", "-f", "qcow2", "-F", format, "-b"]).arg(below).arg(disk))
    }

    /// Puts the file system `plain` into a LUKS container that `passphrase` opens: this machine has no dm-crypt to do it with.
    pub(crate) fn encrypt(&self, plain: &Path, passphrase: &str, container: &Path) -> Result<()> {
        let secret = format!("secret,id=words,data={passphrase}");
        self.img(|call| {
            let call = call.args(["convert", "-f", "raw", "-O", "luks", "--object", &secret]);
            call.args(["-o", "key-secret=words,iter-time=10"]).arg(plain).arg(container)
        })
    }

    fn img(&self, words: impl FnOnce(Invocation) -> Invocation) -> Result<()> {
        let call = Invocation::new(BOUND).args(self.words("qemu-img")).env(MODULES, self.modules());
        host::run(words(call), Duration::from_secs(120)).map(drop)
    }

    /// Starts a machine so that it dies with the thread that started it.
    #[expect(clippy::disallowed_methods, reason = "the one program here that runs beside its caller, for minutes")]
    pub(crate) fn start(&self, args: &[String], log: &Path) -> Result<Child> {
        let data = ["qemu", "seabios"].map(|name| self.folder.join("usr/share").join(name));
        std::process::Command::new(BOUND)
            .args(self.words("qemu-system-x86_64"))
            .args(data.iter().flat_map(|folder| ["-L".as_ref(), folder.as_os_str()]))
            .args(args)
            .env(MODULES, self.modules())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(log)?)
            .spawn()
            .context("cannot start QEMU")
    }

    /// What [`BOUND`] is told to run one of QEMU's programs.
    fn words(&self, name: &str) -> [PathBuf; 6] {
        let libraries = self.folder.join(LIBRARIES);
        let loader = libraries.join("ld-linux-x86-64.so.2");
        let program = self.folder.join("usr/bin").join(name);
        ["--pdeathsig".into(), "KILL".into(), loader, "--library-path".into(), libraries, program]
    }

    fn modules(&self) -> PathBuf {
        self.folder.join(LIBRARIES).join("qemu")
    }

    /// Finds out which accelerator works here: a `/dev/kvm` that is there may still not run a stock kernel.
    fn accelerator_for(&self, cache: &Path, image: &Image) -> Result<Accelerator> {
        if !Path::new("/dev/kvm").exists() {
            return Ok(Accelerator::Tcg);
        }
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
        let note = cache.join("accelerator");
        let known = fs::read_to_string(&note).unwrap_or_default();
        if let Some(name) = known.strip_prefix(boot.as_str()) {
            return Ok(if name == "kvm" { Accelerator::Kvm } else { Accelerator::Tcg });
        }
        let found = if self.kvm_boots(cache, image)? { Accelerator::Kvm } else { Accelerator::Tcg };
        fs::write(note, format!("{boot}{}", found.name()))?;
        Ok(found)
    }

    /// Whether the image's kernel comes up under KVM.
    fn kvm_boots(&self, cache: &Path, image: &Image) -> Result<bool> {
        let folder = tempfile::tempdir_in(cache)?;
        let console = folder.path().join("console.log");
        let args = [
            "-nodefaults",
            "-no-user-config",
            "-display",
            "none",
            "-m",
            "512",
            "-machine",
            "q35",
            "-accel",
            Accelerator::Kvm.option(),
            "-cpu",
            "max",
            "-no-reboot",
            "-append",
            "console=ttyS0 panic=-1",
        ];
        let mut args: Vec<_> = args.map(str::to_owned).into();
        args.extend(["-kernel".to_owned(), image.kernel().display().to_string()]);
        args.extend(["-initrd".to_owned(), image.initrd().display().to_string()]);
        args.extend(["-serial".to_owned(), format!("file:{}", console.display())]);
        let mut child = self.start(&args, &folder.path().join("qemu.log"))?;
        let began = Instant::now();
        let booted = loop {
            let said = fs::read(&console).unwrap_or_default();
            if String::from_utf8_lossy(&said).contains("Run /init as init process") {
                break true;
            }
            if child.try_wait()?.is_some() || began.elapsed() > Duration::from_secs(20) {
                break false;
            }
            std::thread::sleep(Duration::from_millis(100));
        };
        child.kill()?;
        child.wait()?;
        Ok(booted)
    }
}
