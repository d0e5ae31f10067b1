#!/bin/sh
# Becomes PID 1 of a small machine: an overlay of / with a real systemd. Called by machine.py inside new namespaces:
#   boot.sh BASE PREFIX_TREE HOSTNAME [SOURCE TARGET]...   (pairs: read-only bind mounts)
set -eu
BASE=$1 TREE=$2 NAME=$3
shift 3
mount -t tmpfs -o mode=0755,size=2g machine "$BASE"
mkdir "$BASE/upper" "$BASE/work" "$BASE/root"
chmod 0755 "$BASE/upper"
R=$BASE/root
mount -t overlay -o "lowerdir=/,upperdir=$BASE/upper,workdir=$BASE/work" machine "$R"
mount -t proc proc "$R/proc"
mount -t sysfs sysfs "$R/sys"
mount -t cgroup2 cgroup2 "$R/sys/fs/cgroup"
mount -t tmpfs -o mode=0755 run "$R/run"
mount -t tmpfs -o mode=1777 tmp "$R/tmp"
mount -t tmpfs -o mode=0755 dev "$R/dev"
for node in null zero full random urandom tty; do
    : > "$R/dev/$node"
    mount --bind "/dev/$node" "$R/dev/$node"
done
mkdir "$R/dev/pts" "$R/dev/shm"
mount -t devpts -o newinstance,ptmxmode=0666,mode=0620 devpts "$R/dev/pts"
mount -t tmpfs -o mode=1777 shm "$R/dev/shm"
ln -s pts/ptmx "$R/dev/ptmx"
ln -s /proc/self/fd "$R/dev/fd"
while [ $# -gt 0 ]; do
    mkdir -p "$R$2"
    mount --rbind "$1" "$R$2"
    mount -o remount,bind,ro "$R$2"
    shift 2
done
# nobody's own files are seen in there
for folder in /root /home /var/log/journal /var/lib/systemd/linger; do
    [ -d "$R$folder" ] && mount -t tmpfs -o mode=0755 own "$R$folder"
done
units=$R/etc/systemd/system
mkdir -p "$units" "$R/etc/systemd/journald.conf.d"
rm -rf "$units"/*.wants "$units"/*.requires "$R"/lib/systemd/system/timers.target.wants
ln -sf /lib/systemd/system/multi-user.target "$units/default.target"
for unit in systemd-udevd.service systemd-udevd-kernel.socket systemd-udevd-control.socket systemd-udev-trigger.service \
    systemd-logind.service getty.target networking.service systemd-resolved.service systemd-networkd.service \
    systemd-networkd.socket systemd-timesyncd.service apt-daily.timer apt-daily-upgrade.timer dev-hugepages.mount \
    dev-mqueue.mount sys-kernel-debug.mount sys-kernel-tracing.mount sys-kernel-config.mount \
    sys-fs-fuse-connections.mount proc-sys-fs-binfmt_misc.automount systemd-binfmt.service systemd-modules-load.service \
    systemd-sysctl.service systemd-remount-fs.service systemd-update-utmp.service modprobe@.service \
    systemd-update-utmp-runlevel.service \
    systemd-journal-flush.service systemd-random-seed.service ssh.service ssh.socket postgresql.service \
    postgresql@.service mariadb.service mysql.service redis-server.service docker.service containerd.service; do
    ln -sf /dev/null "$units/$unit"
done
cp -a "$TREE/." "$R/"
printf '[Journal]\nStorage=volatile\nRateLimitBurst=0\n' > "$R/etc/systemd/journald.conf.d/test.conf"
echo "$NAME" > "$R/etc/hostname"
hostname "$NAME"
printf '127.0.0.1 localhost\n::1 localhost\n' > "$R/etc/hosts"
rm -f "$R/etc/machine-id"
tr -d - < /proc/sys/kernel/random/uuid > "$R/etc/machine-id"
# Not chroot: below one the kernel makes no user namespaces, which PrivateUsers= needs. Shared, which systemd itself does
# on real machines only: LoadCredential= mounts in a namespace of its own and lets it spread.
mkdir "$R/run/outside"
cd "$R"
pivot_root . run/outside
exec env -i container=other PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    sh -c 'umount -l /run/outside && rmdir /run/outside && mount --make-rshared / && exec /lib/systemd/systemd --system'
