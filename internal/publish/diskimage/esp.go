package diskimage

import (
	"context"
	"path/filepath"

	"github.com/ashlar-os/ashlar/internal/publish/esp"
)

// writeESP makes the file system of partition 1 in the disk at job.disk().
func (j *job) writeESP(ctx context.Context) error {
	files := append(j.enroll.Files(),
		esp.File{Path: esp.Fallback, Content: j.content.Loader},
		esp.File{Path: "EFI/systemd/systemd-bootx64.efi", Content: j.content.Loader},
		esp.File{Path: esp.BootDir + j.content.bootFile(), Source: filepath.Join(j.work, "uki")})
	p := j.layout.esp
	return esp.Write(ctx, esp.Options{
		Image: j.disk(), Start: p.Start, Size: p.Size, Label: "ASHLAR-ESP",
		VolumeID: j.id.VolumeID("esp"), Time: j.epoch, Work: j.work,
	}, files)
}
