# What the findings beside this share. Sourced first, it runs the finding once
# more in namespaces of its own for mounts and processes, so that none remain,
# and removes its folder after that. It takes root, debootstrap and python3.
#
#	install SUITE VERSION	RabbitMQ of a suite of Debian; ends with 3 if that has another version by now
#	start SUITE		runs it on loopback
#	stop			stops it in order
#	client [PACKAGE...]	runs the Python program on standard input, after the prelude below, with these packages
#				of PyPI if it is the first one, else with pika 1.3.2

if [ -z "${FINDING_FOLDER-}" ]; then
	FINDING_FOLDER=$(mktemp -d)
	export FINDING_FOLDER
	trap 'rm -rf --one-file-system "$FINDING_FOLDER"' EXIT
	unshare --mount --pid --fork --kill-child --mount-proc bash "$0"
	exit
fi

# quietly runs a command, and shows what it said if it fails.
quietly() {
	"$@" >"$FINDING_FOLDER/log" 2>&1 </dev/null && return
	echo "failed: $*" >&2
	tail "$FINDING_FOLDER/log" >&2
	exit 2
}

install() {
	local suite=$1 version=$2 root=$FINDING_FOLDER/$1 found
	local script=/usr/share/debootstrap/scripts/$suite
	[ -e "$script" ] || script=${script%/*}/sid # of a debootstrap that is older than the suite
	quietly debootstrap --variant=minbase "$suite" "$root" "" "$script"
	printf '#!/bin/sh\nexit 101\n' >"$root/usr/sbin/policy-rc.d" # no service starts by itself
	chmod +x "$root/usr/sbin/policy-rc.d"
	cp /etc/hosts /etc/resolv.conf "$root/etc/"
	mount --rbind /proc "$root/proc"
	mount --rbind /dev "$root/dev"
	DEBIAN_FRONTEND=noninteractive quietly chroot "$root" apt-get install -y --no-install-recommends rabbitmq-server
	found=$(chroot "$root" dpkg-query -W -f '${Version}' rabbitmq-server)
	echo "RabbitMQ $found of $suite"
	if [[ $found != "$version"-* ]]; then
		echo "the suite has moved on: this was seen with $version" >&2
		exit 3
	fi
}

start() {
	local ports=$FINDING_FOLDER/ports dist_port epmd_port
	[ -e "$ports" ] || python3 >"$ports" <<-'END'
		import socket
		sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(3)]
		print(*(s.getsockname()[1] for s in sockets))
	END
	read -r amqp_port dist_port epmd_port <"$ports"
	env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/var/lib/rabbitmq RABBITMQ_NODENAME=finding@localhost \
		RABBITMQ_NODE_IP_ADDRESS=127.0.0.1 RABBITMQ_NODE_PORT="$amqp_port" RABBITMQ_DIST_PORT="$dist_port" \
		ERL_EPMD_ADDRESS=127.0.0.1 ERL_EPMD_PORT="$epmd_port" \
		RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS='-kernel inet_dist_use_interface {127,0,0,1}' \
		chroot "$FINDING_FOLDER/$1" sh -c 'exec /usr/lib/rabbitmq/lib/*/sbin/rabbitmq-server' \
		>"$FINDING_FOLDER/log" 2>&1 </dev/null &
	server=$!
	until (: <"/dev/tcp/127.0.0.1/$amqp_port") 2>/dev/null; do
		kill -0 "$server" || { tail "$FINDING_FOLDER/log" >&2; exit 2; }
		sleep 0.2
	done
}

stop() {
	kill "$server"
	wait "$server" || true
}

client() {
	local venv=$FINDING_FOLDER/venv
	if [ ! -e "$venv" ]; then
		quietly python3 -m venv "$venv"
		quietly "$venv/bin/pip" install "${@:-pika==1.3.2}"
	fi
	{ echo "$prelude"; cat; } | AMQP_PORT=$amqp_port "$venv/bin/python" -
}

prelude='
import os, sys, time
import pika

def connect():
    return pika.BlockingConnection(pika.ConnectionParameters("127.0.0.1", int(os.environ["AMQP_PORT"])))

def publish(channel, queue, body, **properties):
    """Returns once the broker has confirmed, if the channel is one that confirms."""
    channel.basic_publish("", queue, body.encode(), pika.BasicProperties(delivery_mode=2, **properties))

def get(channel, queue):
    """Waits for a message, 30 seconds at most."""
    until = time.monotonic() + 30
    while time.monotonic() < until:
        method, properties, body = channel.basic_get(queue)
        if method:
            return method, properties, body
        time.sleep(0.05)
    sys.exit(f"nothing came from {queue}")

def see(what, seen, before):
    """Prints what is seen, and ends the program if it is not what was seen before."""
    print(f"{what}: {seen}", flush=True)
    if seen != before:
        sys.exit(f"it has changed: {before} before")
'
