# Makes the root folder $2 of Debian's suite $1 from the mirror $3, with
# RabbitMQ in it. It runs in a mount namespace of its own, so that no mount
# remains, whatever becomes of it.
set -eu
suite=$1 root=$2 mirror=$3

# A debootstrap that is older than the suite takes the newest that it knows.
script=/usr/share/debootstrap/scripts/$suite
[ -e "$script" ] || script=/usr/share/debootstrap/scripts/sid
debootstrap --variant=minbase --include=ca-certificates "$suite" "$root" "$mirror" "$script"

# Packages start no service in there, find localhost, and take the way out of
# here that the machine's own take.
printf '#!/bin/sh\nexit 101\n' >"$root/usr/sbin/policy-rc.d"
chmod +x "$root/usr/sbin/policy-rc.d"
cp /etc/hosts /etc/resolv.conf "$root/etc/"
apt-config dump | grep -i '^Acquire::https\?::Proxy ' >"$root/etc/apt/apt.conf.d/90proxy" || true

mount --rbind /proc "$root/proc"
mount --rbind /dev "$root/dev"
DEBIAN_FRONTEND=noninteractive chroot "$root" apt-get install -y --no-install-recommends rabbitmq-server
chroot "$root" apt-get clean
rm -rf "$root"/var/lib/apt/lists/* "$root"/usr/share/doc/* "$root"/usr/share/man/*
