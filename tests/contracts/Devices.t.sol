// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.28;

import {Ownable} from "@openzeppelin/contracts/access/Ownable.sol";

import {IDeviceRegistrants} from "../../contracts/interfaces/IDeviceRegistrants.sol";
import {IDeviceRegistry} from "../../contracts/interfaces/IDeviceRegistry.sol";
import {IDeviceSites} from "../../contracts/interfaces/IDeviceSites.sol";
import {IIdentityRegistry} from "../../contracts/interfaces/IIdentityRegistry.sol";
import {DeviceScene} from "./DeviceScene.sol";

/// @title Each function, event and error of DeviceRegistry
contract Devices is DeviceScene {
    bytes32 private constant PRODUCT = "acme-thermo2";
    address private constant BLOCKOTA = address(0xB10C);

    function setUp() external {
        _deployDevices();
        _populate();
    }

    function test_D1_registrantsAreAdmittedOnce() external {
        bytes memory key = _publicKey(3, "city");
        KEYS.expectEmit(address(_registry));
        emit IDeviceRegistrants.RegistrantAdmitted("city", STRANGER, key);
        _registry.admitRegistrant("city", key, STRANGER);
        IDeviceRegistrants.Registrant memory found = _registry.registrant("city");
        require(found.name == "city" && found.account == STRANGER && !found.suspended, "D1");
        require(found.since == block.timestamp && keccak256(found.publicKey) == keccak256(key), "D1: since and key");
        require(_registry.registrantOf(STRANGER).name == "city" && _registry.registrant("none").name == 0, "D1: by");

        bytes memory other = _publicKey(2, "other");
        _refuseAdmission("city", other, address(9), abi.encodeWithSelector(IDeviceRegistrants.RegistrantKnown.selector, bytes32("city")));
        _refuseAdmission("two", key, address(9), abi.encodeWithSelector(IDeviceRegistrants.PublicKeyTaken.selector, key));
        _refuseAdmission(
            "two",
            other,
            STRANGER,
            abi.encodeWithSelector(IDeviceRegistrants.RegistrantAccountTaken.selector, STRANGER, bytes32("city"))
        );
        _refuseAdmission("two", other, address(0), abi.encodeWithSelector(IDeviceRegistrants.AccountMissing.selector));
        bytes32[4] memory names = [bytes32(0), "a/b", "a b", 0x6161616161616161616161616161616161616161616161616161616161616161];
        for (uint256 i = 0; i < names.length; ++i) {
            _refuseAdmission(names[i], other, address(9), abi.encodeWithSelector(IDeviceRegistrants.NameInvalid.selector, names[i]));
        }
        bytes[4] memory keys = [bytes(""), hex"02", _publicKey(4, "x"), abi.encodePacked(other, uint8(0))];
        for (uint256 i = 0; i < keys.length; ++i) {
            _refuseAdmission("two", keys[i], address(9), abi.encodeWithSelector(IDeviceRegistrants.PublicKeyInvalid.selector, keys[i]));
        }
    }

    function test_D1_anAccountIsReplacedForEver() external {
        KEYS.expectEmit(address(_registry));
        emit IDeviceRegistrants.RegistrantAccountChanged(ACME, STRANGER);
        _registry.setRegistrantAccount(ACME, STRANGER);
        require(_registry.registrantOf(_acme).account == STRANGER, "D1: former account");
        bytes memory taken = abi.encodeWithSelector(IDeviceRegistrants.RegistrantAccountTaken.selector, _acme, ACME);
        _refuse(address(this), abi.encodeCall(_registry.setRegistrantAccount, (ACME, _acme)), taken);
        _refuse(address(this), abi.encodeCall(_registry.setRegistrantAccount, (BOLT, _acme)), taken);
        bytes memory refusal = abi.encodeWithSelector(IDeviceRegistrants.AccountMissing.selector);
        _refuse(address(this), abi.encodeCall(_registry.setRegistrantAccount, (BOLT, address(0))), refusal);
        refusal = abi.encodeWithSelector(IDeviceRegistrants.RegistrantUnknown.selector, bytes32("none"));
        _refuse(address(this), abi.encodeCall(_registry.setRegistrantAccount, ("none", address(9))), refusal);
        refusal = abi.encodeWithSelector(IDeviceRegistrants.NotARegistrant.selector, _acme);
        _refuse(_acme, abi.encodeCall(_registry.registerSpec, ("new", "")), refusal);
        _succeed(STRANGER, abi.encodeCall(_registry.registerSpec, ("new", "")));
    }

    function test_D2_aSuspendedRegistrantWritesNothing() external {
        uint64 number = _register(_thing("1"));
        IDeviceRegistry.Registration memory thing = _thing("2");
        bytes memory signature = _sign(ACME_KEY, thing);
        KEYS.expectEmit(address(_registry));
        emit IDeviceRegistrants.RegistrantSuspended(ACME);
        _registry.suspendRegistrant(ACME);
        require(_registry.registrant(ACME).suspended, "D2: suspended");
        bytes memory refusal = abi.encodeWithSelector(IDeviceRegistrants.RegistrantIsSuspended.selector, ACME);
        _refuse(STRANGER, abi.encodeCall(_registry.register, (thing, signature)), refusal);
        _refuse(_acme, abi.encodeCall(_registry.registerSpec, ("new", "")), refusal);
        _refuse(_acme, abi.encodeCall(_registry.allow, (THERMO, 1, BLOCKOTA, PRODUCT)), refusal);
        _refuse(_acme, abi.encodeCall(_registry.disallow, (THERMO, 1, BLOCKOTA, PRODUCT)), refusal);
        _refuse(_acme, abi.encodeCall(_registry.registerBatch, (THERMO, SITE, 1, "root")), refusal);
        _refuse(_acme, abi.encodeCall(_registry.setKey, (number, 0, 0)), refusal);
        _refuse(_acme, abi.encodeCall(_registry.transfer, (number, BOLT)), refusal);
        _refuse(_acme, abi.encodeCall(_registry.ban, (number, "stolen")), refusal);
        _refuse(_acme, abi.encodeCall(_registry.unban, (number)), refusal);
        refusal = abi.encodeWithSelector(IDeviceRegistrants.SuspensionUnchanged.selector, ACME, true);
        _refuse(address(this), abi.encodeCall(_registry.suspendRegistrant, (ACME)), refusal);

        KEYS.expectEmit(address(_registry));
        emit IDeviceRegistrants.RegistrantRestored(ACME);
        _registry.restoreRegistrant(ACME);
        refusal = abi.encodeWithSelector(IDeviceRegistrants.SuspensionUnchanged.selector, ACME, false);
        _refuse(address(this), abi.encodeCall(_registry.restoreRegistrant, (ACME)), refusal);
        _succeed(STRANGER, abi.encodeCall(_registry.register, (thing, signature)));
        refusal = abi.encodeWithSelector(IDeviceRegistrants.RegistrantUnknown.selector, bytes32("none"));
        _refuse(address(this), abi.encodeCall(_registry.suspendRegistrant, ("none")), refusal);
        _refuse(address(this), abi.encodeCall(_registry.restoreRegistrant, ("none")), refusal);
    }

    function test_D3_specsAreRegisteredOrImportedOnce() external {
        bytes32 specHash = keccak256("new");
        KEYS.expectEmit(address(_registry));
        emit IDeviceRegistrants.SpecRegistered(specHash, ACME, "new", false);
        vm.prank(_acme);
        _registry.registerSpec("new", "data");
        IDeviceRegistrants.Spec memory found = _registry.spec(specHash);
        bytes memory hexKey = _hexKey(_publicKey(2, "acme"));
        bytes memory record = abi.encodePacked(hex"0a0464617461", hex"1242", hexKey);
        require(found.specHash == specHash && found.registrant == ACME && !found.imported, "D3");
        require(_same(found.name, "new") && found.signature.length == 0, "D3: name");
        require(keccak256(found.record) == keccak256(record), "D3: record");
        require(keccak256(_registry.record("Spec:new")) == keccak256(record), "D3: by key");
        _refuse(_bolt, abi.encodeCall(_registry.registerSpec, ("new", "")), abi.encodeWithSelector(IDeviceRegistrants.SpecKnown.selector, "new"));

        KEYS.expectEmit(address(_registry));
        emit IDeviceRegistrants.SpecRegistered(keccak256("test spec 1"), BOLT, "test spec 1", true);
        _registry.importSpec(BOLT, "test spec 1", "", SIGNATURE);
        found = _registry.spec(keccak256("test spec 1"));
        require(found.imported && found.registrant == BOLT && _same(found.name, "test spec 1"), "D3: imported");
        require(keccak256(found.signature) == keccak256(SIGNATURE), "D3: signature");
        require(keccak256(found.record) == keccak256(abi.encodePacked(hex"1242", _hexKey(_publicKey(3, "bolt")))), "D3: no data");
        require(_registry.spec(keccak256("none")).specHash == 0, "D3: unknown");
    }

    function test_D3_specsAreRefused() external {
        string[4] memory names = ["", "a/b", "a b", _long(65)];
        for (uint256 i = 0; i < names.length; ++i) {
            bytes memory invalid = abi.encodeWithSelector(IDeviceRegistrants.SpecNameInvalid.selector, names[i]);
            _refuse(_acme, abi.encodeCall(_registry.registerSpec, (names[i], "")), invalid);
            bytes memory call = abi.encodeCall(_registry.importSpec, (ACME, names[i], "", SIGNATURE));
            _refuse(address(this), call, i == 2 ? bytes("") : invalid);
        }
        _succeed(_acme, abi.encodeCall(_registry.registerSpec, (_long(64), _long(2048))));
        bytes memory refusal = abi.encodeWithSelector(IDeviceRegistrants.TextTooLong.selector, 2049, 2048);
        _refuse(_acme, abi.encodeCall(_registry.registerSpec, ("new", _long(2049))), refusal);
        _refuse(address(this), abi.encodeCall(_registry.importSpec, (ACME, "new", _long(2049), SIGNATURE)), refusal);
        refusal = abi.encodeWithSelector(IDeviceRegistrants.SignatureLengthInvalid.selector, 0, 255);
        _refuse(address(this), abi.encodeCall(_registry.importSpec, (ACME, "new", "", "")), refusal);
        refusal = abi.encodeWithSelector(IDeviceRegistrants.SignatureLengthInvalid.selector, 256, 255);
        _refuse(address(this), abi.encodeCall(_registry.importSpec, (ACME, "new", "", new bytes(256))), refusal);
        refusal = abi.encodeWithSelector(IDeviceRegistrants.RegistrantUnknown.selector, bytes32("none"));
        _refuse(address(this), abi.encodeCall(_registry.importSpec, ("none", "new", "", SIGNATURE)), refusal);
        _succeed(address(this), abi.encodeCall(_registry.importSpec, (ACME, "new", "", new bytes(255))));
        require(_registry.spec(keccak256("new")).signature.length == 255, "D3: longest signature");
    }

    function test_D4_aSpecListsWhatMayUpdate() external {
        _list(true, 1, BLOCKOTA, PRODUCT);
        _list(true, 2, BLOCKOTA, PRODUCT);
        require(_registry.allows(THERMO, 1, BLOCKOTA, PRODUCT), "D4: allowed");
        require(!_registry.allows(THERMO, 3, BLOCKOTA, PRODUCT), "D4: another chain");
        require(!_registry.allows(THERMO, 1, STRANGER, PRODUCT), "D4: another contract");
        require(!_registry.allows(THERMO, 1, BLOCKOTA, "other"), "D4: another product");
        require(!_registry.allows(PUMP, 1, BLOCKOTA, PRODUCT), "D4: another spec");
        require(!_registry.allows("none", 1, BLOCKOTA, PRODUCT), "D4: unknown spec");
        bytes memory refusal = _unchanged(1, true);
        _refuse(_acme, abi.encodeCall(_registry.allow, (THERMO, 1, BLOCKOTA, PRODUCT)), refusal);
        _list(false, 1, BLOCKOTA, PRODUCT);
        require(!_registry.allows(THERMO, 1, BLOCKOTA, PRODUCT), "D4: disallowed");
        _refuse(_acme, abi.encodeCall(_registry.disallow, (THERMO, 1, BLOCKOTA, PRODUCT)), _unchanged(1, false));
        _refuse(_acme, abi.encodeCall(_registry.disallow, (THERMO, 9, BLOCKOTA, PRODUCT)), _unchanged(9, false));
        IDeviceRegistrants.Update[] memory list = _registry.updates(THERMO, 0, 9);
        require(list.length == 2 && !list[0].allowed && list[1].allowed, "D4: list");
        require(list[1].chain == 2 && list[1].blockOta == BLOCKOTA && list[1].product == PRODUCT, "D4: entry");
        _list(true, 1, BLOCKOTA, PRODUCT);
        require(_registry.updates(THERMO, 0, 9).length == 2 && _registry.allows(THERMO, 1, BLOCKOTA, PRODUCT), "D4: again");
        require(_registry.updates(THERMO, 1, 9).length == 1 && _registry.updates("none", 0, 9).length == 0, "D4: pages");
    }

    function test_D4_theListIsTheRegistrants() external {
        bytes memory refusal = abi.encodeWithSelector(IDeviceRegistrants.SpecOfAnotherRegistrant.selector, THERMO, ACME);
        _refuse(_bolt, abi.encodeCall(_registry.allow, (THERMO, 1, BLOCKOTA, PRODUCT)), refusal);
        _refuse(_bolt, abi.encodeCall(_registry.disallow, (THERMO, 1, BLOCKOTA, PRODUCT)), refusal);
        refusal = abi.encodeWithSelector(IDeviceRegistrants.NotARegistrant.selector, address(this));
        _refuse(address(this), abi.encodeCall(_registry.allow, (THERMO, 1, BLOCKOTA, PRODUCT)), refusal);
        refusal = abi.encodeWithSelector(IDeviceRegistrants.SpecUnknown.selector, bytes32("none"));
        _refuse(_acme, abi.encodeCall(_registry.allow, ("none", 1, BLOCKOTA, PRODUCT)), refusal);
        refusal = abi.encodeWithSelector(IDeviceRegistrants.UpdateInvalid.selector, uint64(0), BLOCKOTA);
        _refuse(_acme, abi.encodeCall(_registry.allow, (THERMO, 0, BLOCKOTA, PRODUCT)), refusal);
        refusal = abi.encodeWithSelector(IDeviceRegistrants.UpdateInvalid.selector, uint64(1), address(0));
        _refuse(_acme, abi.encodeCall(_registry.allow, (THERMO, 1, address(0), PRODUCT)), refusal);
        refusal = abi.encodeWithSelector(IDeviceRegistrants.NameInvalid.selector, bytes32(0));
        _refuse(_acme, abi.encodeCall(_registry.allow, (THERMO, 1, BLOCKOTA, 0)), refusal);
    }

    function test_D5_blocksAreGivenInSequence() external {
        require(_registry.blockCount() == 3, "D5: count");
        KEYS.expectEmit(address(_registry));
        emit IDeviceSites.BlocksGiven(SITE, 4, 1024);
        _registry.giveBlocks(SITE, 1024);
        require(_registry.blockCount() == 1027, "D5: count after");
        require(_registry.siteOf(255) == 0 && _registry.siteOf(1028 * 256) == 0, "D5: no site");
        require(_registry.siteOf(256) == SITE && _registry.siteOf(511) == SITE, "D5: block 1");
        require(_registry.siteOf(512) == OTHER_SITE && _registry.siteOf(1023) == OTHER_SITE, "D5: blocks 2 and 3");
        require(_registry.siteOf(1028 * 256 - 1) == SITE, "D5: the last block");
        IDeviceSites.Site memory found = _registry.site(SITE);
        require(found.uuid == SITE && found.given == 1025 * 256 && found.left == 1025 * 256, "D5: site");
        _register(_thing("1"));
        require(_registry.site(SITE).left == 1025 * 256 - 1, "D5: left");
        require(_registry.site("none").uuid == 0 && _registry.site("none").given == 0, "D5: unknown");

        uint256[] memory words = new uint256[](2);
        (words[0], words[1]) = (1, 1027);
        require(_registry.ownsBlocks(SITE, words) && !_registry.ownsBlocks(OTHER_SITE, words), "D5: owns");
        require(!_registry.ownsBlocks("none", words) && !_registry.ownsBlocks("none", new uint256[](1)), "D5: none");
        words[1] = 2;
        require(!_registry.ownsBlocks(SITE, words), "D5: one of another site");
        words[1] = 1028;
        require(!_registry.ownsBlocks(SITE, words), "D5: one not given");
        words[1] = 0;
        require(!_registry.ownsBlocks(SITE, words), "D5: block 0");
    }

    function test_D5_blocksAreRefused() external {
        bytes memory refusal = abi.encodeWithSelector(IDeviceSites.BlockCountInvalid.selector, uint32(0), uint32(1024));
        _refuse(address(this), abi.encodeCall(_registry.giveBlocks, (SITE, 0)), refusal);
        refusal = abi.encodeWithSelector(IDeviceSites.BlockCountInvalid.selector, uint32(1025), uint32(1024));
        _refuse(address(this), abi.encodeCall(_registry.giveBlocks, (SITE, 1025)), refusal);
        bytes16[3] memory sites = [bytes16("none"), RETIRED_SITE, ADMINISTRATOR];
        for (uint256 i = 0; i < sites.length; ++i) {
            refusal = abi.encodeWithSelector(IDeviceSites.NotAGateway.selector, sites[i]);
            _refuse(address(this), abi.encodeCall(_registry.giveBlocks, (sites[i], 1)), refusal);
            _refuse(address(this), abi.encodeCall(_registry.replaceSite, (SITE, sites[i])), refusal);
        }
    }

    function test_D5_aSiteIsReplacedWithItsDevices() external {
        uint64 number = _register(_thing("1"));
        _identities.set(address(4), "new", IIdentityRegistry.Kind.Gateway, true);
        _identities.set(address(1), SITE, IIdentityRegistry.Kind.Gateway, false);
        KEYS.expectEmit(address(_registry));
        emit IDeviceSites.SiteReplaced(SITE, "new");
        _registry.replaceSite(SITE, "new");
        uint256[] memory words = new uint256[](1);
        words[0] = number / 256;
        require(_registry.ownsBlocks("new", words) && !_registry.ownsBlocks(SITE, words), "D5: owner of blocks");
        require(_registry.device(number).site == "new" && _registry.site("new").left == 255, "D5: device");
        require(_registry.site(SITE).uuid == 0 && _registry.sites(0, 9)[0].uuid == "new", "D5: the former site");
        bytes memory refusal = abi.encodeWithSelector(IDeviceSites.SiteUnknown.selector, SITE);
        _refuse(address(this), abi.encodeCall(_registry.replaceSite, (SITE, "new")), refusal);
        refusal = abi.encodeWithSelector(IDeviceSites.SiteKnown.selector, OTHER_SITE);
        _refuse(address(this), abi.encodeCall(_registry.replaceSite, ("new", OTHER_SITE)), refusal);
        IDeviceRegistry.Registration memory thing = _thing("2");
        thing.site = "new";
        require(_register(thing) == number + 1, "D5: next number");
    }

    function test_D6_aDeviceIsRegisteredByASignature() external {
        IDeviceRegistry.Registration memory thing = _thing("SN-1");
        thing.data = '{"a":1}';
        thing.aliases = new string[](2);
        (thing.aliases[0], thing.aliases[1]) = ("acme/thermo2/SN-1", "acme/hall/7");
        (thing.keyX, thing.keyY) = _deviceKey(7);
        bytes memory signature = _sign(ACME_KEY, thing);
        KEYS.expectEmit(address(_registry));
        emit IDeviceRegistry.DeviceRegistered(256, SITE, THERMO, ACME, "acme/thermo2/SN-1", false);
        KEYS.expectEmit(address(_registry));
        emit IDeviceRegistry.DeviceKeySet(256, thing.keyX, thing.keyY);
        vm.prank(STRANGER);
        require(_registry.register(thing, signature) == 256, "D6: the first number");

        bytes memory record = abi.encodePacked(
            hex"0a1161636d652f746865726d6f322f534e2d31",
            hex"0a0b61636d652f68616c6c2f37",
            hex"1242",
            _hexKey(_publicKey(2, "acme")),
            hex"1a07",
            '{"a":1}',
            hex"2207",
            "thermo2"
        );
        IDeviceRegistry.Device memory found = _registry.device(256);
        require(found.number == 256 && found.registrant == ACME && found.specHash == THERMO, "D6: names");
        require(found.site == SITE && !found.imported && found.ban == IDeviceRegistry.Ban.None, "D6: state");
        require(found.since == block.timestamp && found.fromBlock == block.number && found.bannedAt == 0, "D6: times");
        require(keccak256(found.key) == keccak256(abi.encodePacked(thing.keyX, thing.keyY)), "D6: key");
        require(keccak256(found.nonce) == keccak256("nonce SN-1") && found.signature.length == 0, "D6: nonce");
        require(keccak256(found.record) == keccak256(record), "D6: record");
        require(keccak256(_registry.record("Thing:6e6f6e636520534e2d31")) == keccak256(record), "D7: by nonce");
        require(_registry.record("Thing:6E6F6E636520534E2D31").length == 0, "D7: upper case");
        bytes memory aliasRecord = abi.encodePacked(hex"0a0a", "nonce SN-1");
        require(keccak256(_registry.record("Alias:acme/hall/7")) == keccak256(aliasRecord), "D7: by alias");
        bytes memory registrant = abi.encodePacked(hex"0a04", "acme", hex"1a21", _publicKey(2, "acme"));
        string memory key = string.concat("RegistrantPubkey:", string(_hexKey(_publicKey(2, "acme"))));
        require(keccak256(_registry.record(key)) == keccak256(registrant), "D7: by key");
        require(_registry.numberOf("acme/hall/7") == 256 && _registry.numberOf("acme/hall/8") == 0, "D6: by alias");
        require(_registry.numberOfKey(thing.keyX, thing.keyY) == 256 && _registry.numberOfKey(0, 0) == 0, "D6: by key");
    }

    function test_D6_otherSignaturesAreRefused() external {
        IDeviceRegistry.Registration memory thing = _thing("1");
        bytes memory signature = _sign(BOLT_KEY, thing);
        bytes memory refusal = abi.encodeWithSelector(IDeviceRegistry.SignatureOfAnother.selector, ACME, _bolt);
        _refuse(_acme, abi.encodeCall(_registry.register, (thing, signature)), refusal);
        refusal = abi.encodeWithSelector(IDeviceRegistry.SignatureOfAnother.selector, ACME, address(0));
        _refuse(_acme, abi.encodeCall(_registry.register, (thing, "")), refusal);
        _refuse(_acme, abi.encodeCall(_registry.register, (thing, _highS(thing))), refusal);
        signature = _sign(ACME_KEY, thing);
        thing.registrant = "none";
        refusal = abi.encodeWithSelector(IDeviceRegistrants.RegistrantUnknown.selector, bytes32("none"));
        _refuse(_acme, abi.encodeCall(_registry.register, (thing, signature)), refusal);
        thing.registrant = ACME;
        _registry.setRegistrantAccount(ACME, STRANGER);
        refusal = abi.encodeWithSelector(IDeviceRegistry.SignatureOfAnother.selector, ACME, _acme);
        _refuse(_acme, abi.encodeCall(_registry.register, (thing, signature)), refusal);
    }

    function test_D6_aSignatureIsOfOneChain() external {
        IDeviceRegistry.Registration memory thing = _thing("1");
        bytes memory signature = _sign(ACME_KEY, thing);
        uint256 chain = block.chainid;
        KEYS.chainId(chain + 1);
        vm.prank(STRANGER);
        (bool done, ) = address(_registry).call(abi.encodeCall(_registry.register, (thing, signature)));
        require(!done, "D6: another chain");
        KEYS.chainId(chain);
        _succeed(STRANGER, abi.encodeCall(_registry.register, (thing, signature)));
    }

    function test_D6_aliasesHaveTheirForm() external {
        string[10] memory firsts = [
            "", "acme/thermo2/", "acme/thermo2", "acme/thermo3/1", "bolt/thermo2/1",
            "acme/thermo2/1/2", "acme/thermo2/1 2", "acme/thermo2/\x7f", "Acme/thermo2/1", _longAlias(129)
        ];
        for (uint256 i = 0; i < firsts.length; ++i) _refuseAlias(0, firsts[i]);
        string[4] memory others = ["acme/", "acme", "bolt/x", "acme/ x"];
        for (uint256 i = 0; i < others.length; ++i) _refuseAlias(1, others[i]);

        IDeviceRegistry.Registration memory thing = _thing("1");
        thing.aliases = new string[](0);
        bytes memory refusal = abi.encodeWithSelector(IDeviceRegistry.AliasCountInvalid.selector, 0, 16);
        _refuse(STRANGER, abi.encodeCall(_registry.register, (thing, _sign(ACME_KEY, thing))), refusal);
        thing.aliases = _aliases(17);
        refusal = abi.encodeWithSelector(IDeviceRegistry.AliasCountInvalid.selector, 17, 16);
        _refuse(STRANGER, abi.encodeCall(_registry.register, (thing, _sign(ACME_KEY, thing))), refusal);
        thing.aliases = _aliases(16);
        thing.aliases[0] = _longAlias(128);
        _register(thing);
        require(_registry.numberOf(_longAlias(128)) == 256 && _registry.numberOf("acme/x15") == 256, "D6: 16 aliases");
    }

    function test_D7_namesAreTakenOnce() external {
        _register(_thing("1"));
        IDeviceRegistry.Registration memory thing = _thing("2");
        thing.nonce = "nonce 1";
        _refuseThing(thing, abi.encodeWithSelector(IDeviceRegistry.NonceTaken.selector, bytes("nonce 1"), uint64(256)));
        thing = _thing("1");
        thing.nonce = "other";
        _refuseThing(thing, abi.encodeWithSelector(IDeviceRegistry.AliasTaken.selector, "acme/thermo2/1", uint64(256)));
        thing.aliases = new string[](3);
        (thing.aliases[0], thing.aliases[1], thing.aliases[2]) = ("acme/thermo2/2", "acme/x", "acme/x");
        _refuseThing(thing, abi.encodeWithSelector(IDeviceRegistry.AliasTaken.selector, "acme/x", uint64(257)));
        thing = _thing("2");
        thing.nonce = "";
        _refuseThing(thing, abi.encodeWithSelector(IDeviceRegistry.NonceInvalid.selector, 0, 64));
        thing.nonce = new bytes(65);
        _refuseThing(thing, abi.encodeWithSelector(IDeviceRegistry.NonceInvalid.selector, 65, 64));
        thing.nonce = new bytes(64);
        thing.data = _long(2049);
        _refuseThing(thing, abi.encodeWithSelector(IDeviceRegistrants.TextTooLong.selector, 2049, 2048));
        thing.data = _long(2048);
        _register(thing);
        require(_registry.device(257).record.length > 2048 + 66, "D7: longest data");
        require(_registry.device(257).nonce.length == 64, "D7: longest nonce");
    }

    function test_D7_aSpecAndASiteAreNeeded() external {
        IDeviceRegistry.Registration memory thing = _thing("1");
        (thing.spec, thing.aliases[0]) = ("none", "acme/none/1");
        _refuseThing(thing, abi.encodeWithSelector(IDeviceRegistrants.SpecUnknown.selector, keccak256("none")));
        (thing.spec, thing.aliases[0]) = ("pump", "acme/pump/1");
        _refuseThing(thing, abi.encodeWithSelector(IDeviceRegistrants.SpecOfAnotherRegistrant.selector, PUMP, BOLT));
        thing = _thing("1");
        thing.site = "none";
        _refuseThing(thing, abi.encodeWithSelector(IDeviceSites.SiteUnknown.selector, bytes16("none")));
        for (uint256 i = 0; i < 256; ++i) {
            thing = _thing(string(_hexKey(abi.encodePacked(uint8(i)))));
            require(_register(thing) == 256 + i, "D5: in sequence");
        }
        thing = _thing("last");
        _refuseThing(thing, abi.encodeWithSelector(IDeviceSites.NumbersMissing.selector, SITE, uint64(1)));
        _registry.giveBlocks(SITE, 1);
        require(_register(thing) == 1024, "D5: the next block");
        require(_registry.devices(0, type(uint64).max).length == 257, "D7: all devices");
        require(_registry.devices(300, 10).length == 10 && _registry.devices(300, 10)[0].number == 300, "D7: page");
        require(_registry.devices(1000, 100).length == 1 && _registry.devices(1025, 100).length == 0, "D7: last page");
    }

    function test_D8_thingsAreImportedWithTheirSignature() external {
        IDeviceRegistry.Registration memory thing = _thing("1");
        thing.aliases = new string[](2);
        (thing.aliases[0], thing.aliases[1]) = (unicode"Foo :ß", "acme/x y");
        KEYS.expectEmit(address(_registry));
        emit IDeviceRegistry.DeviceRegistered(256, SITE, THERMO, ACME, unicode"Foo :ß", true);
        _registry.importThings(_import(thing));
        IDeviceRegistry.Device memory found = _registry.device(256);
        require(found.imported && keccak256(found.signature) == keccak256(SIGNATURE), "D8");
        require(_registry.numberOf(unicode"Foo :ß") == 256, "D8: alias");

        string[4] memory wrong = ["", "x/y", "bolt/thermo2/1", "/"];
        for (uint256 i = 0; i < wrong.length; ++i) {
            thing = _thing("2");
            thing.aliases[0] = wrong[i];
            bytes memory invalid = abi.encodeWithSelector(IDeviceRegistry.AliasInvalid.selector, wrong[i]);
            _refuse(address(this), abi.encodeCall(_registry.importThings, (_import(thing))), invalid);
        }
        bytes memory refusal = abi.encodeWithSelector(IDeviceRegistry.NothingToImport.selector);
        _refuse(address(this), abi.encodeCall(_registry.importThings, (new IDeviceRegistry.ImportedThing[](0))), refusal);
        IDeviceRegistry.ImportedThing[] memory things = _import(_thing("2"));
        things[0].signature = "";
        refusal = abi.encodeWithSelector(IDeviceRegistrants.SignatureLengthInvalid.selector, 0, 255);
        _refuse(address(this), abi.encodeCall(_registry.importThings, (things)), refusal);
        things[0].signature = SIGNATURE;
        things[0].thing.registrant = "none";
        refusal = abi.encodeWithSelector(IDeviceRegistrants.RegistrantUnknown.selector, bytes32("none"));
        _refuse(address(this), abi.encodeCall(_registry.importThings, (things)), refusal);
    }

    function test_D9_keysAreReplacedAndKept() external {
        uint64 number = _register(_thing("1"));
        (bytes32 oneX, bytes32 oneY) = _deviceKey(1);
        (bytes32 twoX, bytes32 twoY) = _deviceKey(2);
        KEYS.roll(2000);
        vm.warp(1_800_000_000);
        KEYS.expectEmit(address(_registry));
        emit IDeviceRegistry.DeviceKeySet(number, oneX, oneY);
        vm.prank(_acme);
        _registry.setKey(number, oneX, oneY);
        KEYS.roll(3000);
        vm.prank(_acme);
        _registry.setKey(number, twoX, twoY);
        IDeviceRegistry.Device memory found = _registry.device(number);
        require(keccak256(found.key) == keccak256(abi.encodePacked(twoX, twoY)), "D9: key");
        require(found.fromBlock == 3000 && found.since == 1_800_000_000, "D9: times");
        IDeviceRegistry.Generation[] memory all = _registry.generations(number);
        require(all.length == 3 && all[2].key.length == 0 && all[1].key.length == 64, "D9: generations");
        require(keccak256(all[1].key) == keccak256(abi.encodePacked(oneX, oneY)), "D9: former key");
        require(all[0].fromBlock == 3000 && all[0].toBlock == 0 && all[0].registrant == ACME, "D9: present");
        require(all[1].fromBlock == 2000 && all[1].toBlock == 3000, "D9: before");
        require(all[2].fromBlock == 1000 && all[2].toBlock == 2000, "D9: first");

        bytes memory refusal = abi.encodeWithSelector(IDeviceRegistry.DeviceKeyTaken.selector, number);
        _refuse(_acme, abi.encodeCall(_registry.setKey, (number, oneX, oneY)), refusal);
        IDeviceRegistry.Registration memory thing = _thing("2");
        (thing.keyX, thing.keyY) = (twoX, twoY);
        _refuseThing(thing, refusal);
        refusal = abi.encodeWithSelector(IDeviceRegistry.DeviceKeyInvalid.selector, oneX, twoY);
        _refuse(_acme, abi.encodeCall(_registry.setKey, (number, oneX, twoY)), refusal);
        (thing.keyX, thing.keyY) = (oneX, twoY);
        _refuseThing(thing, refusal);
        (thing.keyX, thing.keyY) = (0, twoY);
        _refuseThing(thing, abi.encodeWithSelector(IDeviceRegistry.DeviceKeyInvalid.selector, bytes32(0), twoY));
        refusal = abi.encodeWithSelector(IDeviceRegistry.DeviceKeyInvalid.selector, bytes32(0), bytes32(0));
        _refuse(_acme, abi.encodeCall(_registry.setKey, (number, 0, 0)), refusal);
        refusal = abi.encodeWithSelector(IDeviceRegistry.DeviceUnknown.selector, uint64(1));
        _refuse(_acme, abi.encodeCall(_registry.setKey, (1, oneX, oneY)), refusal);
        refusal = abi.encodeWithSelector(IDeviceRegistry.DeviceOfAnother.selector, number, _bolt);
        _refuse(_bolt, abi.encodeCall(_registry.setKey, (number, oneX, oneY)), refusal);
        refusal = abi.encodeWithSelector(IDeviceRegistrants.NotARegistrant.selector, address(this));
        _refuse(address(this), abi.encodeCall(_registry.setKey, (number, oneX, oneY)), refusal);
    }

    function test_D10_devicesAreTransferred() external {
        IDeviceRegistry.Registration memory thing = _thing("1");
        thing.data = "data";
        uint64 number = _register(thing);
        KEYS.roll(2000);
        KEYS.expectEmit(address(_registry));
        emit IDeviceRegistry.DeviceTransferred(number, ACME, BOLT);
        vm.prank(_acme);
        _registry.transfer(number, BOLT);
        IDeviceRegistry.Device memory found = _registry.device(number);
        bytes memory record = abi.encodePacked(
            hex"0a0e61636d652f746865726d6f322f31",
            hex"1242",
            _hexKey(_publicKey(3, "bolt")),
            hex"1a0464617461",
            hex"2207",
            "thermo2"
        );
        require(found.registrant == BOLT && found.specHash == THERMO, "D10");
        require(keccak256(found.record) == keccak256(record), "D10: record");
        require(_registry.generations(number)[1].registrant == ACME, "D10: before");
        bytes memory refusal = abi.encodeWithSelector(IDeviceRegistry.DeviceOfAnother.selector, number, _acme);
        _refuse(_acme, abi.encodeCall(_registry.transfer, (number, ACME)), refusal);
        refusal = abi.encodeWithSelector(IDeviceRegistry.TransferToSelf.selector, number, BOLT);
        _refuse(_bolt, abi.encodeCall(_registry.transfer, (number, BOLT)), refusal);
        _refuse(address(this), abi.encodeCall(_registry.transfer, (number, BOLT)), refusal);
        refusal = abi.encodeWithSelector(IDeviceRegistrants.RegistrantUnknown.selector, bytes32("none"));
        _refuse(_bolt, abi.encodeCall(_registry.transfer, (number, "none")), refusal);
        refusal = abi.encodeWithSelector(IDeviceRegistry.DeviceUnknown.selector, uint64(1));
        _refuse(_bolt, abi.encodeCall(_registry.transfer, (1, ACME)), refusal);
        refusal = abi.encodeWithSelector(IDeviceRegistrants.NotARegistrant.selector, STRANGER);
        _refuse(STRANGER, abi.encodeCall(_registry.transfer, (number, ACME)), refusal);
        _registry.transfer(number, ACME);
        require(_registry.device(number).registrant == ACME && _registry.generations(number).length == 3, "D10: owner");
    }

    function test_D11_devicesAreBanned() external {
        uint64 number = _register(_thing("1"));
        _ban(_acme, number, IDeviceRegistry.Ban.Registrant, 0);
        bytes memory refusal = _banned(number, IDeviceRegistry.Ban.Registrant);
        _refuse(_acme, abi.encodeCall(_registry.ban, (number, "again")), refusal);
        _ban(ADMIN, number, IDeviceRegistry.Ban.City, ADMINISTRATOR);
        refusal = _banned(number, IDeviceRegistry.Ban.City);
        _refuse(_acme, abi.encodeCall(_registry.ban, (number, "again")), refusal);
        _refuse(address(this), abi.encodeCall(_registry.ban, (number, "again")), refusal);
        refusal = abi.encodeWithSelector(IDeviceRegistry.DeviceNotBanned.selector, number, IDeviceRegistry.Ban.City);
        _refuse(_acme, abi.encodeCall(_registry.unban, (number)), refusal);
        _unban(ADMIN, number, IDeviceRegistry.Ban.City, ADMINISTRATOR);
        refusal = abi.encodeWithSelector(IDeviceRegistry.DeviceNotBanned.selector, number, IDeviceRegistry.Ban.None);
        _refuse(_acme, abi.encodeCall(_registry.unban, (number)), refusal);
        _refuse(address(this), abi.encodeCall(_registry.unban, (number)), refusal);
        _ban(address(this), number, IDeviceRegistry.Ban.City, 0);
        _unban(address(this), number, IDeviceRegistry.Ban.City, 0);
        _ban(_acme, number, IDeviceRegistry.Ban.Registrant, 0);
        _unban(_acme, number, IDeviceRegistry.Ban.Registrant, 0);

        refusal = abi.encodeWithSelector(IDeviceRegistry.DeviceOfAnother.selector, number, _bolt);
        _refuse(_bolt, abi.encodeCall(_registry.ban, (number, "theirs")), refusal);
        _refuse(_bolt, abi.encodeCall(_registry.unban, (number)), refusal);
        address[3] memory strangers = [STRANGER, FORMER_ADMIN, address(1)];
        for (uint256 i = 0; i < strangers.length; ++i) {
            refusal = abi.encodeWithSelector(IDeviceRegistrants.NotARegistrant.selector, strangers[i]);
            _refuse(strangers[i], abi.encodeCall(_registry.ban, (number, "")), refusal);
        }
        refusal = abi.encodeWithSelector(IDeviceRegistry.DeviceUnknown.selector, uint64(257));
        _refuse(address(this), abi.encodeCall(_registry.ban, (257, "")), refusal);
        _refuse(address(this), abi.encodeCall(_registry.unban, (257)), refusal);
    }

    function test_D12_batchesAreRegisteredByTheirRoot() external {
        _register(_thing("1"));
        _registry.giveBlocks(SITE, 4);
        KEYS.expectEmit(address(_registry));
        emit IDeviceRegistry.BatchRegistered(1024, SITE, THERMO, ACME, 1000, "root");
        vm.prank(_acme);
        require(_registry.registerBatch(THERMO, SITE, 1000, "root") == 1024, "D12: first");
        vm.prank(_acme);
        require(_registry.registerBatch(THERMO, SITE, 23, "root 2") == 2024, "D12: second");
        IDeviceRegistry.Batch memory found = _registry.batchOf(2023);
        require(found.first == 1024 && found.count == 1000 && found.root == "root", "D12: batch");
        require(found.specHash == THERMO && found.registrant == ACME && found.since == block.timestamp, "D12: facts");
        require(_registry.batchOf(1024).root == "root" && _registry.batchOf(2046).root == "root 2", "D12: ends");
        require(_registry.batchOf(2024).root == "root 2" && _registry.batchOf(2047).count == 0, "D12: after");
        require(_registry.batchOf(1023).count == 0 && _registry.batchOf(256).count == 0, "D12: before");
        require(_registry.batches(SITE, 0, 9).length == 2 && _registry.batches(SITE, 1, 9)[0].first == 2024, "D12: pages");
        require(_registry.batches(OTHER_SITE, 0, 9).length == 0, "D12: another site");
        IDeviceRegistry.Device memory device = _registry.device(1500);
        require(device.number == 1500 && device.registrant == ACME && device.specHash == THERMO, "D12: device");
        require(device.site == SITE && device.record.length == 0 && device.since == block.timestamp, "D12: no record");
        require(_registry.devices(2045, 9).length == 2 && _registry.generations(1500).length == 0, "D12: page");
        _ban(_acme, 1500, IDeviceRegistry.Ban.Registrant, 0);
        require(_registry.device(1501).ban == IDeviceRegistry.Ban.None, "D12: the others");
        bytes memory refusal = abi.encodeWithSelector(IDeviceRegistry.DeviceUnknown.selector, uint64(1500));
        _refuse(_acme, abi.encodeCall(_registry.transfer, (1500, BOLT)), refusal);
        require(_register(_thing("2")) == 2047, "D12: the next number");
    }

    function test_D12_batchesAreRefused() external {
        _registry.giveBlocks(OTHER_SITE, 1024);
        uint64 limit = 1 << 20;
        bytes memory refusal = abi.encodeWithSelector(IDeviceRegistry.BatchInvalid.selector, bytes32(0), uint64(1), limit);
        _refuse(_acme, abi.encodeCall(_registry.registerBatch, (THERMO, SITE, 1, 0)), refusal);
        refusal = abi.encodeWithSelector(IDeviceRegistry.BatchInvalid.selector, bytes32("root"), uint64(0), limit);
        _refuse(_acme, abi.encodeCall(_registry.registerBatch, (THERMO, SITE, 0, "root")), refusal);
        refusal = abi.encodeWithSelector(IDeviceRegistry.BatchInvalid.selector, bytes32("root"), limit + 1, limit);
        _refuse(_acme, abi.encodeCall(_registry.registerBatch, (THERMO, SITE, limit + 1, "root")), refusal);
        refusal = abi.encodeWithSelector(IDeviceSites.NumbersMissing.selector, SITE, uint64(257));
        _refuse(_acme, abi.encodeCall(_registry.registerBatch, (THERMO, SITE, 257, "root")), refusal);
        refusal = abi.encodeWithSelector(IDeviceSites.NumbersMissing.selector, OTHER_SITE, limit);
        _refuse(_acme, abi.encodeCall(_registry.registerBatch, (THERMO, OTHER_SITE, limit, "root")), refusal);
        refusal = abi.encodeWithSelector(IDeviceRegistrants.SpecOfAnotherRegistrant.selector, THERMO, ACME);
        _refuse(_bolt, abi.encodeCall(_registry.registerBatch, (THERMO, SITE, 1, "root")), refusal);
        refusal = abi.encodeWithSelector(IDeviceRegistrants.NotARegistrant.selector, address(this));
        _refuse(address(this), abi.encodeCall(_registry.registerBatch, (THERMO, SITE, 1, "root")), refusal);
    }

    function test_D13_onlyTheOwnerRules() external {
        bytes memory refusal = abi.encodeWithSelector(Ownable.OwnableUnauthorizedAccount.selector, _acme);
        _refuse(_acme, abi.encodeCall(_registry.admitRegistrant, ("x", _publicKey(2, "x"), STRANGER)), refusal);
        _refuse(_acme, abi.encodeCall(_registry.suspendRegistrant, (BOLT)), refusal);
        _refuse(_acme, abi.encodeCall(_registry.restoreRegistrant, (BOLT)), refusal);
        _refuse(_acme, abi.encodeCall(_registry.setRegistrantAccount, (ACME, STRANGER)), refusal);
        _refuse(_acme, abi.encodeCall(_registry.importSpec, (ACME, "x", "", SIGNATURE)), refusal);
        _refuse(_acme, abi.encodeCall(_registry.importThings, (_import(_thing("1")))), refusal);
        _refuse(_acme, abi.encodeCall(_registry.giveBlocks, (SITE, 1)), refusal);
        _refuse(_acme, abi.encodeCall(_registry.replaceSite, (SITE, "new")), refusal);
        _refuse(_acme, abi.encodeCall(_registry.transferOwnership, (_acme)), refusal);
        _refuse(address(this), abi.encodeCall(_registry.renounceOwnership, ()), abi.encodeWithSelector(IDeviceRegistry.RenouncingRefused.selector));
        _registry.transferOwnership(STRANGER);
        require(_registry.owner() == address(this) && _registry.pendingOwner() == STRANGER, "D13: two steps");
        _succeed(STRANGER, abi.encodeCall(_registry.acceptOwnership, ()));
        require(_registry.owner() == STRANGER && _registry.identities() == address(_identities), "D13");
    }

    function test_pagesOfRegistrantsSpecsAndSites() external view {
        require(_registry.registrants(0, 9).length == 2 && _registry.registrants(1, 9)[0].name == BOLT, "registrants");
        require(_registry.registrants(2, 9).length == 0 && _registry.registrants(0, 1).length == 1, "registrants' ends");
        require(_registry.specs(0, 9).length == 2 && _registry.specs(1, 9)[0].specHash == PUMP, "specs");
        require(_registry.specs(2, 9).length == 0 && _registry.specs(0, 1)[0].specHash == THERMO, "specs' ends");
        require(_registry.sites(0, 9).length == 2 && _registry.sites(1, 9)[0].uuid == OTHER_SITE, "sites");
        require(_registry.sites(2, 9).length == 0 && _registry.sites(0, 1)[0].given == 256, "sites' ends");
    }

    function test_theStorageIsWhereDocumented() external {
        IDeviceRegistry.Registration memory thing = _thing("1");
        (thing.keyX, thing.keyY) = _deviceKey(7);
        uint64 number = _register(thing);
        vm.prank(_acme);
        _registry.ban(number, "stolen");
        uint256 word = _stored(keccak256(abi.encode(number, 13)));
        require(word >> 160 == (uint256(1) << 40) | block.timestamp, "the ban");
        bytes memory code = address(uint160(word)).code;
        bytes memory head = abi.encodePacked(uint8(0), address(0), uint40(block.number), uint40(block.timestamp));
        bytes memory rest = abi.encodePacked(uint16(18), uint32(1), uint32(1), uint8(64), uint8(7), uint8(0));
        bytes memory values = abi.encodePacked(thing.keyX, thing.keyY, "nonce 1", _registry.device(number).record);
        require(keccak256(code) == keccak256(abi.encodePacked(head, rest, values)), "the version");

        bytes32 keyHash = keccak256(abi.encode(thing.keyX, thing.keyY));
        require(_stored(keccak256(abi.encode(keyHash, 14))) == number, "the key");
        require(_entry("Alias:acme/thermo2/1") == (4 << 248) | number, "an alias");
        require(_entry("Thing:6e6f6e63652031") == (3 << 248) | number, "a thing");
        require(_entry("Spec:pump") == (2 << 248) | 2, "a spec");
        string memory key = string.concat("RegistrantPubkey:", string(_hexKey(_publicKey(3, "bolt"))));
        require(_entry(key) == (1 << 248) | 2, "a registrant");
        uint256 blocks = _stored(keccak256(abi.encode(0, 12)));
        require(blocks == (1 << 32) | (2 << 64) | (2 << 96), "the sites of blocks");
    }

    function _entry(string memory key) private view returns (uint256) {
        return _stored(keccak256(abi.encode(keccak256(bytes(key)), 2)));
    }

    function _stored(bytes32 slot) private view returns (uint256) {
        return uint256(KEYS.load(address(_registry), slot));
    }

    function _refuseAdmission(bytes32 name, bytes memory key, address account, bytes memory refusal) private {
        _refuse(address(this), abi.encodeCall(_registry.admitRegistrant, (name, key, account)), refusal);
    }

    function _refuseThing(IDeviceRegistry.Registration memory thing, bytes memory refusal) private {
        uint256 key = thing.registrant == ACME ? ACME_KEY : BOLT_KEY;
        _refuse(STRANGER, abi.encodeCall(_registry.register, (thing, _sign(key, thing))), refusal);
        _refuse(address(this), abi.encodeCall(_registry.importThings, (_import(thing))), refusal);
    }

    function _refuseAlias(uint256 place, string memory aliasText) private {
        IDeviceRegistry.Registration memory thing = _thing("1");
        thing.aliases = _aliases(2);
        thing.aliases[place] = aliasText;
        bytes memory refusal = abi.encodeWithSelector(IDeviceRegistry.AliasInvalid.selector, aliasText);
        _refuse(STRANGER, abi.encodeCall(_registry.register, (thing, _sign(ACME_KEY, thing))), refusal);
    }

    function _ban(address sender, uint64 number, IDeviceRegistry.Ban by, bytes16 administrator) private {
        vm.warp(block.timestamp + 1);
        KEYS.expectEmit(address(_registry));
        emit IDeviceRegistry.DeviceBanned(number, by, administrator, "stolen");
        vm.prank(sender);
        _registry.ban(number, "stolen");
        require(_registry.device(number).ban == by && _registry.device(number).bannedAt == block.timestamp, "D11: ban");
    }

    function _unban(address sender, uint64 number, IDeviceRegistry.Ban by, bytes16 administrator) private {
        KEYS.expectEmit(address(_registry));
        emit IDeviceRegistry.DeviceUnbanned(number, by, administrator);
        vm.prank(sender);
        _registry.unban(number);
        IDeviceRegistry.Device memory found = _registry.device(number);
        require(found.ban == IDeviceRegistry.Ban.None && found.bannedAt == 0, "D11: unban");
    }

    function _list(bool allowed, uint64 chain, address blockOta, bytes32 product) private {
        KEYS.expectEmit(address(_registry));
        if (allowed) emit IDeviceRegistrants.UpdateAllowed(THERMO, chain, blockOta, product);
        else emit IDeviceRegistrants.UpdateDisallowed(THERMO, chain, blockOta, product);
        vm.prank(_acme);
        if (allowed) _registry.allow(THERMO, chain, blockOta, product);
        else _registry.disallow(THERMO, chain, blockOta, product);
    }

    function _unchanged(uint64 chain, bool allowed) private pure returns (bytes memory) {
        bytes4 selector = IDeviceRegistrants.UpdateUnchanged.selector;
        return abi.encodeWithSelector(selector, THERMO, chain, BLOCKOTA, PRODUCT, allowed);
    }

    function _banned(uint64 number, IDeviceRegistry.Ban by) private pure returns (bytes memory) {
        return abi.encodeWithSelector(IDeviceRegistry.DeviceAlreadyBanned.selector, number, by);
    }

    /// @dev The other valid form of a signature of acme, which ecrecover would accept.
    function _highS(IDeviceRegistry.Registration memory thing) private view returns (bytes memory) {
        uint256 order = 0xfffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141;
        (uint8 v, bytes32 r, bytes32 s) = KEYS.sign(ACME_KEY, _digest(thing));
        return abi.encodePacked(r, order - uint256(s), v == 27 ? 28 : 27);
    }

    function _aliases(uint256 count) private pure returns (string[] memory aliases) {
        aliases = new string[](count);
        aliases[0] = "acme/thermo2/1";
        for (uint256 i = 1; i < count; ++i) aliases[i] = string.concat("acme/x", i < 10 ? "0" : "1", string(abi.encodePacked(uint8(48 + (i % 10)))));
    }

    function _longAlias(uint256 length) private pure returns (string memory) {
        return string.concat("acme/thermo2/", _long(length - 13));
    }

    function _long(uint256 length) private pure returns (string memory) {
        bytes memory text = new bytes(length);
        for (uint256 i = 0; i < length; ++i) text[i] = "x";
        return string(text);
    }

    function _same(string memory one, string memory two) private pure returns (bool) {
        return keccak256(bytes(one)) == keccak256(bytes(two));
    }

    function _hexKey(bytes memory data) private pure returns (bytes memory text) {
        bytes memory digits = "0123456789abcdef";
        for (uint256 i = 0; i < data.length; ++i) {
            text = abi.encodePacked(text, digits[uint8(data[i]) >> 4], digits[uint8(data[i]) & 15]);
        }
    }
}
