package cli

import (
	"fmt"
	"strings"
	"time"

	"github.com/ashlar-os/ashlar/internal/machine/update"
	"github.com/ashlar-os/ashlar/internal/trust"
)

// signatureAnswer is who vouches for a deployment, in the answers of status and verify.
type signatureAnswer struct {
	State     update.Belief     `json:"state"`
	Reason    string            `json:"reason"`          // where it is not verified
	Keys      []string          `json:"keys"`            // ids of the targets keys that signed
	Until     string            `json:"until"`           // when the first of the signatures expires, RFC 3339
	Stale     string            `json:"stale,omitempty"` // they have expired: a sentence
	Withdrawn *trust.Withdrawal `json:"withdrawn,omitempty"`
}

func describeVouch(v update.Vouch) signatureAnswer {
	a := signatureAnswer{State: v.Belief, Reason: v.Reason, Keys: []string{}, Stale: v.Stale, Withdrawn: v.Withdrawn}
	if v.Belief == update.Verified {
		a.Keys = append(a.Keys, v.Keys...)
		a.Until = v.Until.Format(time.RFC3339)
	}
	return a
}

// String is what a person is told of one deployment.
func (a signatureAnswer) String() string {
	switch a.State {
	case update.Verified:
		keys := make([]string, len(a.Keys))
		for i, id := range a.Keys {
			keys[i] = id[:min(len(id), 12)]
		}
		until, _, _ := strings.Cut(a.Until, "T")
		return fmt.Sprintf("verified (targets key %s, until %s)", strings.Join(keys, ", "), until)
	case update.Unchecked:
		return "not checked: " + a.Reason
	}
	return "NOBODY VOUCHES FOR IT: " + a.Reason
}

// printSignatures says who vouches for what is here, what was withdrawn, and
// what a person can do about that.
func printSignatures(g *globals, answer statusAnswer) {
	stale := ""
	var texts []string               // in the order of the deployments
	ids := make(map[string][]string) // of those that have the same text
	for _, d := range answer.Deployments {
		if d.Signatures == nil {
			continue
		}
		text := d.Signatures.String()
		if ids[text] == nil {
			texts = append(texts, text)
		}
		ids[text] = append(ids[text], d.ID)
		if stale == "" {
			stale = d.Signatures.Stale
		}
	}
	for _, text := range texts {
		g.printf("signatures  %s: %s\n", strings.Join(ids[text], ", "), text)
	}
	if stale != "" {
		g.printf("stale       %s\n", stale)
	}
	for _, d := range answer.Deployments {
		switch {
		case answer.Recall != nil && answer.Recall.ID == d.ID:
			g.printf("withdrawn   %s\n", answer.Recall)
		case d.Signatures != nil && d.Signatures.Withdrawn != nil:
			g.printf("withdrawn   %s: %s\n", d.ID, d.Signatures.Withdrawn.Reason)
		}
	}
}
