// Package history is what a machine remembers of its boots, in three small
// files of the store:
//
//	history, history.1               every deployment's life, for people: one JSON object a line
//	deployments/<digest>/failure     why the last boot of a deployment failed
//	boots.json                       how many boots in a row did not end well
//
// The first process of every boot writes all three, as do the agent and the
// health checks; so this package links no network code and runs no program.
//
// The history is only told, never asked: nothing that a machine does depends on
// it but the wish not to say a thing twice. A line is one write at the end of the file. A cut
// leaves at most a part of the last one, which readers pass over and the next
// writer ends. The other two files are replaced as a whole.
//
// See docs/health.md for every field.
package history
