// Package health finds out whether a system has come up right.
//
// What is checked, in this order:
//
//	target     systemd reached its default target
//	units      none that the image calls required has failed
//	network    there is a way out, where the image asks for one
//	programs   every executable in /usr/lib/ashlar/health.d and /etc/ashlar/health.d
//
// The image says in /usr/lib/ashlar/health.toml which units, whether the
// network, and how long a program may take. A program that ends with another
// code than 0, or not in time, has failed; its whole process group is killed then.
//
// All checks are made, also after one has failed, so that people see all that
// is wrong. ashlar-health.service makes them before boot-complete.target, and
// with that before systemd-bless-boot takes the counter from the boot file's name.
//
// See docs/health.md.
package health
