package cli

import "testing"

// A reset is asked for by typing the machine's name, and can be taken back.
func TestReset(t *testing.T) {
	f, _ := newFakeMachine(t)
	f.write("etc/hostname", "box\n")
	f.fails(exitUsage, `this machine is called "box", and not "fox": nothing was changed`, "reset", "--confirm", "fox")
	if f.c.Store().ResetAsked() {
		t.Error("a wrong name was enough")
	}
	f.ok("the next boot takes away /var and all changes of /etc on box", "reset", "--confirm", "box")
	if !f.c.Store().ResetAsked() {
		t.Error("the next boot does not know")
	}
	f.ok("RESET       the next boot takes away /var", "status")
	f.ok("box keeps its /etc and /var", "reset", "--cancel")
	if f.c.Store().ResetAsked() {
		t.Error("it was not taken back")
	}
	var answer resetAnswer
	f.answer(&answer, "reset", "--confirm", "box", "--json")
	if answer != (resetAnswer{Schema: 1, Host: "box", Pending: true}) {
		t.Errorf("answered %+v", answer)
	}
}
