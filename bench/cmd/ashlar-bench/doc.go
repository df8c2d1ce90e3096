// Command ashlar-bench measures Ashlar beside its peers; see docs/bench.md.
//
//	ashlar-bench compare -work DIR -ashlar FILE -init FILE -results FILE
//	ashlar-bench boot    -root CHECKOUT -results FILE
//
// compare takes the trees and the peers that bench/run has put into DIR, has both
// sides do the same work in turn, and writes a table. boot times the first process
// in a virtual machine. What is measured runs in a process of its own, so that
// its processor time and its memory are nobody else's: Ashlar's part is this
// program again, by the verbs bootfile, publish and update, which call what the
// command calls. The servers run beside, and their time counts for nobody.
package main
