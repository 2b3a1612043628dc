#!/usr/bin/env bash
# Tests over verbs on Soft-RoCE, in a virtual machine.
#
# Usage: run_rdma_tests.sh short|full PROGRAM [LIBAGENTMEM]
#   short  a clean wire, and one that is cut and mended
#   full   also what short leaves out, and again with 1% of the packets lost
# PROGRAM: fabric_rdma_test (the transport), pool_rdma_test (the pool), or memd,
# of which two are run, with clients that load LIBAGENTMEM.
# Exits 77, and says why, where there is no QEMU to run it.
set -u
here=$(cd -- "$(dirname -- "$0")" && pwd)
mode=${1:-} program=${2:-} library=${3:-}
timeout_s=280
[ "$mode" = short ] || timeout_s=900
if [ ! -x "$program" ] || { [ "$mode" != short ] && [ "$mode" != full ]; }; then
    sed -n '4,8s/^# *//p' "$0" >&2
    exit 2
fi

# What short leaves out, and what full runs while packets are lost: each costs
# rxe 2 s and more.
case ${program##*/} in
    fabric_rdma_test)
        left_out='FabricDeath*:*/FabricTransportTest*/2'
        lossy='FabricErrors*'
        ;;
    memd)
        if ! command -v etcd >/dev/null; then
            echo "skipped: etcd is missing (apt-get install etcd-server)"
            exit 77
        fi
        ;;
    *)
        left_out='*ANodeThatEnds*:*LostPackets*'
        lossy='FabricPoolTest.ABlockOfAny*:*AFind*:*Batches*'
        ;;
esac

# One word a tool, and the package that it comes from.
for tool in qemu-system-x86_64:qemu-system-x86 busybox:busybox-static \
            tc:iproute2 xz:xz-utils; do
    if ! PATH=$PATH:/sbin:/usr/sbin command -v "${tool%%:*}" >/dev/null; then
        echo "skipped: ${tool%%:*} is missing (apt-get install" \
             "--no-install-recommends ${tool##*:})"
        exit 77
    fi
done
if ! ls /usr/lib/*/libibverbs/librxe-rdmav*.so >/dev/null 2>&1; then
    echo "skipped: rxe's library is missing (apt-get install" \
         "--no-install-recommends ibverbs-providers)"
    exit 77
fi
if ! "$here/run-in-rdma-vm" --prepare >/dev/null; then
    echo "skipped: the virtual machine's kernel cannot be had (the reason" \
         "stands above)"
    exit 77
fi

# shellcheck disable=SC2016  # they are the virtual machine's
run='"$0" verbs "$RXE0_ADDR" "$RXE1_ADDR"'
script="$run"
if [ "${program##*/}" = memd ]; then
    # short: neither a node is killed nor the wire cut.
    script="python3 '$here/memd_rdma_test.py' '$(dirname -- "$program")' '$library'"
    [ "$mode" = full ] || script="$script -k test_1 -k test_2 -k test_3 -k test_6"
elif [ "$mode" = short ]; then
    [ -z "$left_out" ] || script="$run --gtest_filter=-$left_out"
else
    script="$run && tc qdisc replace dev rdma0 root netem loss 1% &&
            tc qdisc replace dev rdma1 root netem loss 1% &&
            $run lossy --gtest_filter='$lossy'"
fi
run_once() {
    "$here/run-in-rdma-vm" --timeout "$timeout_s" --show "$here/../.." \
        --show "$(dirname -- "$program")" \
        --show "$(dirname -- "${library:-$program}")" -- sh -c "$script" "$program"
}
# An emulated kernel now and then does not come up on a busy machine (125).
run_once
status=$?
[ "$status" -ne 125 ] || { run_once; status=$?; }
exit "$status"
