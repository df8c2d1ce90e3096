# Runs what the host sends over a virtio port: lines "ID BASE64-OF-A-SCRIPT",
# answered by "done ID STATUS BASE64-STDOUT BASE64-STDERR".
dir=/run/vmtest
mkdir -p -m 0700 "$dir"
exec 3<>"${1:-/dev/virtio-ports/org.ashlar.vmtest}" || exit 1
# The empty line ends what an agent that was cut off left half-written.
printf '\nready %s\n' "$(cat /proc/sys/kernel/random/boot_id)" >&3
while read -r id script <&3; do
	printf %s "$script" | base64 -d >"$dir/script"
	sh "$dir/script" </dev/null >"$dir/out" 2>"$dir/err" 3>&-
	status=$?
	{
		printf 'done %s %s ' "$id" "$status"
		base64 -w0 "$dir/out"
		printf ' '
		base64 -w0 "$dir/err"
		echo
	} >&3
done
