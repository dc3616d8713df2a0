#!/bin/sh
# Boots the Debian in folder BASE as a machine of its own; box.py calls this inside new namespaces, in which it becomes
# PID 1. What the machine writes lies in memory and is gone with it.
#   boot.sh BASE BOX SOURCE     BOX: an empty folder for the mounts; SOURCE: the checkout, read-only at /opt/yikatong/src
set -eu
base=$1 box=$2 source=$3 root=$2/root

mount --make-rprivate /
mount -t tmpfs -o mode=0755 box "$box"
mkdir "$box/changes" "$box/work" "$root"
mount -t overlay -o "lowerdir=$base,upperdir=$box/changes,workdir=$box/work" box "$root"

mount -t proc proc "$root/proc"
mount -t sysfs -o ro sysfs "$root/sys"
mount -t tmpfs -o mode=0755 tmpfs "$root/run"

mount -t tmpfs -o mode=0755 tmpfs "$root/dev"
mkdir "$root/dev/pts" "$root/dev/shm"
for device in null zero full random urandom tty; do
  : >"$root/dev/$device"
  mount --bind "/dev/$device" "$root/dev/$device"
done
mount -t devpts -o newinstance,ptmxmode=0666,gid=5,mode=0620 devpts "$root/dev/pts"
ln -s pts/ptmx "$root/dev/ptmx"
ln -s /proc/self/fd "$root/dev/fd"
: >"$root/dev/console"

if [ -e /sys/fs/cgroup/cgroup.controllers ]; then
  mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
else # the host still has the older hierarchies; systemd then wants its named one, and the unified one beside it
  mount -t tmpfs -o mode=0755 tmpfs "$root/sys/fs/cgroup"
  mkdir "$root/sys/fs/cgroup/systemd" "$root/sys/fs/cgroup/unified"
  mount -t cgroup -o none,name=systemd,xattr cgroup "$root/sys/fs/cgroup/systemd"
  mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup/unified"
fi

mkdir -p "$root/opt/yikatong/src"
mount --bind "$source" "$root/opt/yikatong/src"
mount -o remount,bind,ro "$root/opt/yikatong/src"

ip link set lo up
# A real change of the root: out of a mere chroot the kernel lets nobody make user namespaces (PrivateUsers=).
cd "$root"
pivot_root . mnt
umount -l /mnt
exec env -i container=box PATH=/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd --show-status=no
