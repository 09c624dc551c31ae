# A drive, or a host that was pulled, can give a file many MB of extended attributes: they are compared one at a time.
#
# shellcheck source=../../miniature.sh
. "$HOST/miniature.sh"

EXT4='-O ea_inode'; backup_disk; drive A 600; ns
inside python3 -c '
import os
for number in range(180): os.setxattr("/backup/holding/luv/photo", f"user.{number}", bytes([number % 251]) * 65000)'
ext
# Both sides are alike, so that each attribute is looked at. What is read last is the peak, as it never falls.
cat >watched <<'PYTHON'
import re, subprocess, sys
job = subprocess.Popen(sys.argv[1:])
peak = 0
while job.poll() is None:
    found = re.search(r"VmHWM:\s+(\d+) kB", open(f"/proc/{job.pid}/status").read())
    peak = int(found[1]) if found else peak
print(peak, "KB at most")
sys.exit(job.returncode or not 0 < peak < 24576)
PYTHON
expect 0 "copied 0 files" python3 watched phobos-ext --config "$CONFIG"
