#!/usr/bin/env bash
# Unpacks Swift 6 and ONNX Runtime's C library from Debian 13 under $1, for root, touching no system package state;
# `$1/run FOLDER COMMAND...` then runs a command there, with the folder as /work. Takes 0.6 GB of downloads, 3.5 of disk.
set -euo pipefail
mkdir -p "${1:?where to}" && cd "$1" && here=$PWD
key=/usr/share/keyrings/debian-archive-keyring.gpg
mirror=$(cat /etc/apt/sources.list /etc/apt/sources.list.d/*.{list,sources} 2>/dev/null |
  sed -nE 's/^(URIs:|deb( \[[^]]*\])?) +([^ ]+\/debian)\/?( .*)?$/\3/p' | head -n 1 || true)
[ -n "$mirror" ] || { echo "no Debian mirror found in this machine's apt sources" >&2; exit 1; }

mkdir -p apt/lists/partial apt/cache/archives/partial && : >apt/status
echo "deb [signed-by=$key] $mirror trixie main" >apt/sources.list
cat >apt.conf <<END
Dir::Etc::sourcelist "$here/apt/sources.list";
Dir::Etc::sourceparts "/dev/null";
Dir::State "$here/apt";
Dir::State::status "$here/apt/status";
Dir::Cache "$here/apt/cache";
APT::Sandbox::User "root";
END
export APT_CONFIG=$here/apt.conf
apt-get -qq update
apt-get -qq install -y --no-install-recommends --download-only \
  bash binutils coreutils dash gcc libc6-dev libonnxruntime-dev libstdc++-14-dev swiftlang

mkdir -p root/usr/{bin,lib,lib64,sbin} root/{dev,proc,tmp,work}
for folder in bin lib lib64 sbin; do ln -sfn usr/$folder root/$folder; done
for package in apt/cache/archives/*.deb; do
  dpkg-deb --fsys-tarfile "$package" | tar --extract --directory root --keep-directory-symlink
  rm "$package"
done
mknod -m 666 root/dev/null c 1 3
mknod -m 666 root/dev/urandom c 1 9

cat >run <<END
#!/bin/sh
exec unshare --mount sh -c '
  mount -t proc proc "\$0/proc" && mount --bind "\$1" "\$0/work" && shift &&
  exec chroot "\$0" /usr/bin/env --ignore-environment --chdir=/work HOME=/tmp PATH=/usr/libexec/swift/bin:/usr/bin \\
    LD_LIBRARY_PATH=/usr/lib/swift/linux "\$@"' $here/root "\$@"
END
chmod +x run
