//! Has the linker pack the relocations of the program, which takes a twentieth off its size.
//!
//! Any binutils since 2.38 and any glibc since 2.36 (Debian 12) can do it.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
}
