package cli

import (
	"path/filepath"

	"github.com/ashlar-os/ashlar/internal/machine/secureboot"
	"github.com/ashlar-os/ashlar/internal/machine/update"
)

// secureBootAnswer says whether the firmware checks what it starts, and what it
// would say to what is here.
type secureBootAnswer struct {
	Mode     secureboot.Mode  `json:"mode"`
	Error    string           `json:"error"`     // why it is not known, or db cannot be read
	BootFile *startedAnswer   `json:"boot_file"` // of what runs; null where it has none
	Loaders  []*startedAnswer `json:"loaders"`
}

// startedAnswer is a program of the ESP. "trusted" is by db, whether the
// firmware asks it or not.
type startedAnswer struct {
	File string `json:"file"` // on the ESP
	secureboot.Verdict
}

// describeSecureBoot reads the programs with which the machine starts, whole.
func describeSecureBoot(m *update.Machine, s *update.State) secureBootAnswer {
	answer := secureBootAnswer{Mode: m.Firmware.Mode, Loaders: []*startedAnswer{}}
	if err := m.Firmware.Err; err != nil {
		answer.Error = err.Error()
	}
	if d := s.With(update.Running); d != nil && d.Entry != nil {
		answer.BootFile = judge(m, filepath.Join("EFI/Linux", d.Entry.File))
	}
	loaders, err := secureboot.Loaders(m.ESP.Dir)
	if err != nil && answer.Error == "" {
		answer.Error = err.Error()
	}
	for _, file := range loaders {
		answer.Loaders = append(answer.Loaders, judge(m, file))
	}
	return answer
}

func judge(m *update.Machine, file string) *startedAnswer {
	verdict, err := m.Firmware.JudgeFile(filepath.Join(m.ESP.Dir, file))
	if err != nil {
		verdict.Reason = err.Error()
	}
	return &startedAnswer{File: file, Verdict: verdict}
}

func (a secureBootAnswer) print(g *globals) {
	words := map[secureboot.Mode]string{
		secureboot.On:      "on: the firmware starts only what its db allows",
		secureboot.Off:     "OFF: the firmware starts anything",
		secureboot.Setup:   "SETUP MODE: the firmware has no keys, and takes those of whoever comes first",
		secureboot.Unknown: "unknown",
	}[a.Mode]
	if a.Error != "" {
		words += ": " + a.Error
	}
	g.printf("secure boot %s\n", words)
	if a.BootFile != nil {
		g.printf("started by  %s\n", a.BootFile.words())
	}
	for _, loader := range a.Loaders {
		if !loader.Trusted && a.Mode == secureboot.On {
			g.printf("loader      %s would not start any more: %s\n", loader.File, loader.Reason)
		}
	}
}

// words says who signed a program, and whether the firmware would mind.
func (a *startedAnswer) words() string {
	switch {
	case a.Trusted && a.Signer != "":
		return "a boot file signed by " + a.Signer
	case a.Trusted:
		return "a boot file whose hash db holds"
	case a.Signer != "":
		return "a boot file signed by " + a.Signer + ": " + a.Reason
	}
	return "a boot file that nobody vouches for: " + a.Reason
}
