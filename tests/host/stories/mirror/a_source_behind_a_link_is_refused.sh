# shellcheck source=../../miniature.sh
. "$HOST/miniature.sh"

backup_disk; drive A; ext; before=$(content A); mkdir elsewhere
for path in borg borg/data borg/data/0; do
    inside sh -c "cp -a /backup/$path $STORY/elsewhere/x; rm -r /backup/$path; ln -s $STORY/elsewhere/x /backup/$path"
    expect 65 "is a symbolic link" ext
    test "$(content A)" = "$before"; safe A
    inside sh -c "rm /backup/$path; cp -a $STORY/elsewhere/x /backup/$path; rm -r $STORY/elsewhere/x"
done
ext; sound A
