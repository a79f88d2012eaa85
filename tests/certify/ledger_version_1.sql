PRAGMA application_id = 1448102983;
PRAGMA user_version = 1;
BEGIN TRANSACTION;
CREATE TABLE runs (
    id INTEGER PRIMARY KEY,
    network TEXT NOT NULL, data_set TEXT NOT NULL, split TEXT NOT NULL,
    perturbation TEXT NOT NULL, specification TEXT NOT NULL, settings_digest TEXT NOT NULL,
    network_name TEXT NOT NULL, epsilon REAL, settings TEXT NOT NULL,
    UNIQUE (network, data_set, split, perturbation, specification, settings_digest)
);
INSERT INTO "runs" VALUES(1,'0f0bd7ee295212e6399b21cc02baec1f7d4e0899182ee7a75edcdc7294dc2e47','images','arrays','linf 0.1','margins','2208f250ab2aca37','two',0.1,'{"attack": {"last_step": 0.05, "momentum": 0.5, "restarts": 1, "seed": 0, "step_size": 0.5, "steps": 40, "targets": 3}, "search": {"branching": {"candidates": 3, "method": "kfsb"}, "budget": {"bytes": 1073741824}, "descent": 40, "domain": {"decay": 0.98, "iterations": 10, "lr_alpha": 0.05, "lr_beta": 0.1, "lr_planes": 0.1}, "max_domains": null, "root": {"decay": 0.98, "iterations": 100, "lr_alpha": 0.1, "lr_beta": 0.05, "lr_planes": 0.1}, "tighten": {"decay": 0.85, "iterations": 6, "lr_alpha": 0.4, "lr_beta": 0.05, "lr_planes": 0.1}}, "stages": ["clean", "ibp", "attack"]}');
CREATE TABLE verdicts (
    run INTEGER NOT NULL REFERENCES runs (id),
    image INTEGER NOT NULL, instance TEXT NOT NULL, label INTEGER,
    verdict TEXT NOT NULL, reason TEXT, stage TEXT NOT NULL, bound REAL,
    seconds REAL NOT NULL, timeout REAL NOT NULL, attempts INTEGER NOT NULL,
    input BLOB, input_shape TEXT, output BLOB, margin REAL,
    detail TEXT NOT NULL, versions TEXT NOT NULL, decided_at REAL NOT NULL,
    PRIMARY KEY (run, image, instance)
) WITHOUT ROWID;
INSERT INTO "verdicts" VALUES(1,0,'6af1a01ce602ad5e0be2bd66811bac17',0,'verified',NULL,'ibp',7.99999999999999933386e-01,1.90015224995931930607e-03,360.0,1,NULL,NULL,NULL,NULL,'','verify_pipeline 0.1.0, python 3.11.7, torch 2.13.0+cpu, onnx 1.23.2, onnxruntime 1.32.0, numpy 2.4.6, highspy 1.15.1',1.79588185450767326358e+09);
INSERT INTO "verdicts" VALUES(1,1,'8924fe35213107f4f33d8c045a3f297e',0,'falsified',NULL,'attack',-0.149999988079071,8.86246775007748510688e-03,360.0,1,X'789C636060B03F7B86C71E0007320224','1,1,2',X'0000003FCDCC0C3F',-5.00000119209289550781e-02,'','verify_pipeline 0.1.0, python 3.11.7, torch 2.13.0+cpu, onnx 1.23.2, onnxruntime 1.32.0, numpy 2.4.6, highspy 1.15.1',1.79588185451515650751e+09);
INSERT INTO "verdicts" VALUES(1,2,'be4835d457e0f55e3c0333c2ff28b17c',1,'verified',NULL,'ibp',7.99999999999999933386e-01,1.96464274995378218591e-03,360.0,1,NULL,NULL,NULL,NULL,'','verify_pipeline 0.1.0, python 3.11.7, torch 2.13.0+cpu, onnx 1.23.2, onnxruntime 1.32.0, numpy 2.4.6, highspy 1.15.1',1.795881854507768631e+09);
INSERT INTO "verdicts" VALUES(1,3,'4806ca4c08edcd80a2161a8bdd8a0248',0,'falsified',NULL,'clean',NULL,1.48108824998871568823e-03,360.0,1,X'789C63600081067B00014700C0','1,1,2',X'000000000000803F',-1.0,'','verify_pipeline 0.1.0, python 3.11.7, torch 2.13.0+cpu, onnx 1.23.2, onnxruntime 1.32.0, numpy 2.4.6, highspy 1.15.1',1.79588185450634741776e+09);
COMMIT;
