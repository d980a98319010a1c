// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.28;

import {Ownable} from "@openzeppelin/contracts/access/Ownable.sol";

import {IDeviceRegistrants} from "../../contracts/interfaces/IDeviceRegistrants.sol";
import {IDeviceRegistry} from "../../contracts/interfaces/IDeviceRegistry.sol";
import {IDeviceSites} from "../../contracts/interfaces/IDeviceSites.sol";
import {IIdentityRegistry} from "../../contracts/interfaces/IIdentityRegistry.sol";
import {DeviceScene, IWholeDeviceRegistry, Identities} from "./DeviceScene.sol";

/// @title Handler for the invariant tests of DeviceRegistry: every action, and a model of the expected state
/// @notice Foundry calls these functions in random order. Each derives from the model whether the contract must revert
/// and with which error, calls the contract, and updates the model.
contract DeviceRegistryHandler is DeviceScene {
    /// @notice A registrant of the model. The private key of its present account is `key`.
    struct Party {
        bytes32 name;
        bool admitted;
        bool suspended;
        uint256 key;
        bytes publicKey;
    }

    /// @notice A spec of the model; its registrant is the number of the party plus 1.
    struct Model {
        string name;
        uint256 registrant;
        bool imported;
    }

    /// @notice A device of the model.
    struct Thing {
        uint64 number;
        uint256 registrant;
        uint256 spec;
        bytes nonce;
        string firstAlias;
        bool imported;
        bytes key;
        IDeviceRegistry.Ban ban;
        uint256 versions;
        uint64 block;
    }

    /// @notice A batch of the model.
    struct Lot {
        uint64 first;
        uint64 count;
        uint256 registrant;
        uint256 spec;
        bytes32 root;
    }

    uint256 public constant PARTIES = 3;
    uint256 public constant MODELS = 4;
    uint256 public constant SITES = 4;
    uint256 public constant UPDATES = 4;
    uint256 public constant DEVICE_KEYS = 6;
    uint256 private constant ACCOUNTS = 5;

    IWholeDeviceRegistry public immutable registry;
    address public owner = address(this);
    address private constant OTHER_OWNER = address(0x0E);

    /// @notice The party plus 1 to which an account belongs or belonged.
    mapping(address account => uint256) public partyOf;
    /// @notice The site, plus 1, of each block from 1 on.
    uint256[] public siteOfBlock;
    /// @notice The number of the device plus 0 to which a key belongs or belonged.
    mapping(uint256 key => uint64) public deviceOfKey;
    mapping(uint256 spec => mapping(uint256 update => bool)) public allowed;
    /// @notice The UUID of each site; sites of the model are those with blocks.
    bytes16[4] public uuids = [SITE, OTHER_SITE, bytes16("site four"), RETIRED_SITE];

    Party[PARTIES] private _parties;
    Model[MODELS] private _models;
    Thing[] private _things;
    Lot[] private _lots;
    uint64[2][][4] private _ranges;
    bytes32[2][DEVICE_KEYS] private _deviceKeys;

    constructor() {
        _deployDevices();
        registry = _registry;
        _identities.set(address(4), "site four", IIdentityRegistry.Kind.Gateway, true);
        (_parties[0].name, _parties[1].name, _parties[2].name) = (ACME, BOLT, "city");
        (_models[0].name, _models[1].name, _models[2].name, _models[3].name) = ("thermo2", "pump", "lock", "lamp");
        for (uint256 i = 0; i < DEVICE_KEYS; ++i) (_deviceKeys[i][0], _deviceKeys[i][1]) = _deviceKey(i);
        for (uint256 i = 0; i < 2; ++i) {
            admit(0, i, i, i);
            giveBlocks(0, i, 0);
            registerSpec(5 + i, i, 0);
        }
        register(0, 1, 0, 0);
    }

    function admit(uint256 who, uint256 which, uint256 account, uint256 key) public {
        Party storage party = _parties[which % PARTIES];
        bytes memory publicKey = _publicKey(key % 8 == 7 ? 4 : uint8(2 + (key % 2)), string(abi.encodePacked(key % 4)));
        bytes32 name = key % 16 == 15 ? bytes32("a/b") : party.name;
        bytes memory refusal = _owned(who);
        if (refusal.length == 0) {
            if (key % 16 == 15) refusal = abi.encodeWithSelector(IDeviceRegistrants.NameInvalid.selector, name);
            else if (key % 8 == 7) refusal = abi.encodeWithSelector(IDeviceRegistrants.PublicKeyInvalid.selector, publicKey);
            else if (party.admitted) refusal = abi.encodeWithSelector(IDeviceRegistrants.RegistrantKnown.selector, name);
            else if (_isTaken(publicKey)) refusal = abi.encodeWithSelector(IDeviceRegistrants.PublicKeyTaken.selector, publicKey);
            else refusal = _accountRefusal(account);
        }
        if (refusal.length == 0) {
            (party.admitted, party.key, party.publicKey) = (true, _accountKey(account), publicKey);
            partyOf[KEYS.addr(party.key)] = which % PARTIES + 1;
        }
        address candidate = account % ACCOUNTS == ACCOUNTS - 1 && account % 3 == 0 ? address(0) : KEYS.addr(_accountKey(account));
        _expect(_sender(who), address(registry), abi.encodeCall(registry.admitRegistrant, (name, publicKey, candidate)), refusal);
    }

    function setSuspended(uint256 who, uint256 which, bool suspended) external {
        Party storage party = _parties[which % PARTIES];
        bytes memory refusal = _owned(who);
        if (refusal.length == 0) refusal = _unknown(party);
        if (refusal.length == 0 && party.suspended == suspended) {
            refusal = abi.encodeWithSelector(IDeviceRegistrants.SuspensionUnchanged.selector, party.name, suspended);
        }
        if (refusal.length == 0) party.suspended = suspended;
        bytes memory call = abi.encodeCall(registry.suspendRegistrant, (party.name));
        if (!suspended) call = abi.encodeCall(registry.restoreRegistrant, (party.name));
        _expect(_sender(who), address(registry), call, refusal);
    }

    function setAccount(uint256 who, uint256 which, uint256 account) external {
        Party storage party = _parties[which % PARTIES];
        bytes memory refusal = _owned(who);
        if (refusal.length == 0) refusal = _unknown(party);
        if (refusal.length == 0) refusal = _accountRefusal(account);
        if (refusal.length == 0) {
            party.key = _accountKey(account);
            partyOf[KEYS.addr(party.key)] = which % PARTIES + 1;
        }
        address candidate = account % ACCOUNTS == ACCOUNTS - 1 && account % 3 == 0 ? address(0) : KEYS.addr(_accountKey(account));
        _expect(_sender(who), address(registry), abi.encodeCall(registry.setRegistrantAccount, (party.name, candidate)), refusal);
    }

    function registerSpec(uint256 who, uint256 which, uint256 seed) public {
        Model storage model = _models[which % MODELS];
        string memory name = seed % 8 == 7 ? "a b" : model.name;
        (bytes memory refusal, uint256 party) = _calling(who);
        if (refusal.length == 0 && seed % 8 == 7) refusal = abi.encodeWithSelector(IDeviceRegistrants.SpecNameInvalid.selector, name);
        if (refusal.length == 0 && model.registrant != 0) refusal = abi.encodeWithSelector(IDeviceRegistrants.SpecKnown.selector, name);
        if (refusal.length == 0) model.registrant = party + 1;
        _expect(_sender(who), address(registry), abi.encodeCall(registry.registerSpec, (name, "data")), refusal);
    }

    function importSpec(uint256 who, uint256 which, uint256 registrant) external {
        Model storage model = _models[which % MODELS];
        Party storage party = _parties[registrant % PARTIES];
        bytes memory signature = registrant % 16 == 15 ? bytes("") : SIGNATURE;
        bytes memory refusal = _owned(who);
        if (refusal.length == 0 && signature.length == 0) refusal = _badSignature();
        if (refusal.length == 0) refusal = _unknown(party);
        if (refusal.length == 0 && model.registrant != 0) refusal = abi.encodeWithSelector(IDeviceRegistrants.SpecKnown.selector, model.name);
        if (refusal.length == 0) (model.registrant, model.imported) = (registrant % PARTIES + 1, true);
        _expect(_sender(who), address(registry), abi.encodeCall(registry.importSpec, (party.name, model.name, "data", signature)), refusal);
    }

    function setAllowed(uint256 who, uint256 spec, uint256 update, bool allow) external {
        (spec, update) = (spec % MODELS, update % UPDATES);
        (uint64 chain, address blockOta, bytes32 product) = updateOf(update);
        bytes32 specHash = keccak256(bytes(_models[spec].name));
        (bytes memory refusal, uint256 party) = _calling(who);
        if (refusal.length == 0) refusal = _foreignSpec(spec, party);
        if (refusal.length == 0 && allowed[spec][update] == allow) {
            bytes4 selector = IDeviceRegistrants.UpdateUnchanged.selector;
            refusal = abi.encodeWithSelector(selector, specHash, chain, blockOta, product, allow);
        }
        if (refusal.length == 0) allowed[spec][update] = allow;
        bytes memory call = abi.encodeCall(registry.allow, (specHash, chain, blockOta, product));
        if (!allow) call = abi.encodeCall(registry.disallow, (specHash, chain, blockOta, product));
        _expect(_sender(who), address(registry), call, refusal);
    }

    function giveBlocks(uint256 who, uint256 which, uint256 count) public {
        which %= SITES;
        uint32 quantity = uint32(count % 8 == 7 ? (count % 16 == 7 ? 0 : 1025) : 1 + (count % 2));
        bytes memory refusal = _owned(who);
        if (refusal.length == 0 && count % 8 == 7) {
            refusal = abi.encodeWithSelector(IDeviceSites.BlockCountInvalid.selector, quantity, uint32(1024));
        }
        if (refusal.length == 0 && which == 3) refusal = abi.encodeWithSelector(IDeviceSites.NotAGateway.selector, uuids[3]);
        if (refusal.length == 0) {
            uint64 first = uint64(siteOfBlock.length + 1);
            for (uint256 i = 0; i < quantity; ++i) siteOfBlock.push(which + 1);
            _ranges[which].push([first * 256, (first + quantity) * 256]);
        }
        _expect(_sender(who), address(registry), abi.encodeCall(registry.giveBlocks, (uuids[which], quantity)), refusal);
    }

    /// @notice Replaces a site in few calls, so that two sites remain.
    function replaceSite(uint256 who, uint256 from, uint256 to) external {
        (from, to) = (from % SITES, to % SITES);
        bytes memory refusal = _owned(who);
        if (refusal.length == 0 && !hasBlocks(from)) refusal = abi.encodeWithSelector(IDeviceSites.SiteUnknown.selector, uuids[from]);
        if (refusal.length == 0 && hasBlocks(to)) refusal = abi.encodeWithSelector(IDeviceSites.SiteKnown.selector, uuids[to]);
        if (refusal.length == 0 && to == 3) refusal = abi.encodeWithSelector(IDeviceSites.NotAGateway.selector, uuids[3]);
        bytes memory call = abi.encodeCall(registry.replaceSite, (uuids[from], uuids[to]));
        // The model exchanges the UUIDs: the blocks of a site, and those of none, stay where they are.
        if (refusal.length == 0) (uuids[from], uuids[to]) = (uuids[to], uuids[from]);
        _expect(_sender(who), address(registry), call, refusal);
    }

    function register(uint256 which, uint256 serial, uint256 seed, uint256 key) public {
        uint256 party = which % 8 == 7 ? 2 : which % 2; // mostly a registrant that is admitted from the start
        uint256 spec = (which >> 8) % 8 == 7 ? (which >> 16) % MODELS : _specOf(party);
        IDeviceRegistry.Registration memory thing = _registration(party, spec, serial, seed, key);
        uint256 signer = (seed >> 32) % 8 == 7 ? 0xBAD : _parties[party].key;
        bytes memory refusal = _unknown(_parties[party]);
        if (refusal.length == 0 && _parties[party].suspended) {
            refusal = abi.encodeWithSelector(IDeviceRegistrants.RegistrantIsSuspended.selector, thing.registrant);
        }
        if (refusal.length == 0 && signer == 0xBAD) {
            refusal = abi.encodeWithSelector(IDeviceRegistry.SignatureOfAnother.selector, thing.registrant, KEYS.addr(0xBAD));
        }
        if (refusal.length == 0 && (seed >> 64) % 8 == 7) {
            thing.aliases[0] = "other/thermo2/1";
            refusal = abi.encodeWithSelector(IDeviceRegistry.AliasInvalid.selector, thing.aliases[0]);
        }
        if (refusal.length == 0) refusal = _added(thing, party, spec, "", key);
        bytes memory signature = _sign(signer == 0 ? 0xBAD : signer, thing);
        _expect(STRANGER, address(registry), abi.encodeCall(registry.register, (thing, signature)), refusal);
    }

    function importThing(uint256 who, uint256 which, uint256 serial, uint256 seed) external {
        uint256 party = which % 8 == 7 ? 2 : which % 2; // mostly a registrant that is admitted from the start
        uint256 spec = (which >> 8) % 8 == 7 ? (which >> 16) % MODELS : _specOf(party);
        IDeviceRegistry.Registration memory thing = _registration(party, spec, serial, seed, 1);
        bool slash = (seed >> 64) % 8 == 7;
        thing.aliases[0] = string.concat(slash ? "x/" : "Foo ", string(_digits(serial % 16)));
        IDeviceRegistry.ImportedThing[] memory imported = _import(thing);
        if ((seed >> 72) % 16 == 15) imported[0].signature = "";
        bytes memory refusal = _owned(who);
        if (refusal.length == 0 && imported[0].signature.length == 0) refusal = _badSignature();
        if (refusal.length == 0) refusal = _unknown(_parties[party]);
        if (refusal.length == 0 && slash) refusal = abi.encodeWithSelector(IDeviceRegistry.AliasInvalid.selector, thing.aliases[0]);
        if (refusal.length == 0) refusal = _added(thing, party, spec, SIGNATURE, 1);
        _expect(_sender(who), address(registry), abi.encodeCall(registry.importThings, (imported)), refusal);
    }

    function registerBatch(uint256 who, uint256 spec, uint256 which, uint64 count) external {
        (which, count) = (which % 8 == 7 ? which % SITES : which % 2, count % 300);
        bytes32 root = count % 16 == 15 ? bytes32(0) : keccak256(abi.encode(_lots.length));
        (bytes memory refusal, uint256 party) = _calling(who);
        spec = spec % 8 == 7 ? (spec >> 8) % MODELS : _specOf(party);
        if (refusal.length == 0 && (count == 0 || root == 0)) {
            refusal = abi.encodeWithSelector(IDeviceRegistry.BatchInvalid.selector, root, count, uint64(1 << 20));
        }
        if (refusal.length == 0) refusal = _foreignSpec(spec, party);
        if (refusal.length == 0) refusal = _noNumbers(which, count);
        if (refusal.length == 0) _lots.push(Lot(_take(which, count), count, party, spec, root));
        bytes32 specHash = keccak256(bytes(_models[spec].name));
        _expect(_sender(who), address(registry), abi.encodeCall(registry.registerBatch, (specHash, uuids[which], count, root)), refusal);
    }

    function setKey(uint256 who, uint256 which, uint256 key) external {
        (bool found, uint256 index, uint64 number) = _device(which);
        (bytes32 x, bytes32 y) = (_deviceKeys[key % DEVICE_KEYS][0], _deviceKeys[key % DEVICE_KEYS][1]);
        if (key % 32 == 31) (x, y) = (y, x);
        (bytes memory refusal, uint256 party) = _calling(who);
        if (!found) refusal = abi.encodeWithSelector(IDeviceRegistry.DeviceUnknown.selector, number);
        else if (refusal.length == 0 && _things[index].registrant != party) {
            refusal = abi.encodeWithSelector(IDeviceRegistry.DeviceOfAnother.selector, number, _sender(who));
        }
        if (refusal.length == 0) refusal = _keyRefusal(key, x, y);
        if (refusal.length == 0) {
            deviceOfKey[key % DEVICE_KEYS] = number;
            _things[index].key = abi.encodePacked(x, y);
            _changed(index);
        }
        _expect(_sender(who), address(registry), abi.encodeCall(registry.setKey, (number, x, y)), refusal);
    }

    function transfer(uint256 who, uint256 which, uint256 to) external {
        to %= PARTIES;
        (bool found, uint256 index, uint64 number) = _device(which);
        (bytes memory refusal, uint256 party) = _calling(who);
        if (_sender(who) == owner) refusal = "";
        if (!found) refusal = abi.encodeWithSelector(IDeviceRegistry.DeviceUnknown.selector, number);
        else if (refusal.length == 0 && _sender(who) != owner && _things[index].registrant != party) {
            refusal = abi.encodeWithSelector(IDeviceRegistry.DeviceOfAnother.selector, number, _sender(who));
        }
        if (refusal.length == 0) refusal = _unknown(_parties[to]);
        if (refusal.length == 0 && _things[index].registrant == to) {
            refusal = abi.encodeWithSelector(IDeviceRegistry.TransferToSelf.selector, number, _parties[to].name);
        }
        if (refusal.length == 0) {
            _things[index].registrant = to;
            _changed(index);
        }
        _expect(_sender(who), address(registry), abi.encodeCall(registry.transfer, (number, _parties[to].name)), refusal);
    }

    function setBanned(uint256 who, uint256 which, bool banned) external {
        (bool found, uint256 index, uint64 number) = _device(which);
        (bytes memory refusal, uint256 party) = _calling(who);
        IDeviceRegistry.Ban by = IDeviceRegistry.Ban.Registrant;
        if (_sender(who) == owner || _sender(who) == ADMIN) (refusal, by) = ("", IDeviceRegistry.Ban.City);
        if (!found) refusal = abi.encodeWithSelector(IDeviceRegistry.DeviceUnknown.selector, number);
        else if (refusal.length == 0 && by != IDeviceRegistry.Ban.City && _things[index].registrant != party) {
            refusal = abi.encodeWithSelector(IDeviceRegistry.DeviceOfAnother.selector, number, _sender(who));
        }
        if (refusal.length == 0) refusal = _banRefusal(_things[index], by, banned);
        if (refusal.length == 0) _things[index].ban = banned ? by : IDeviceRegistry.Ban.None;
        bytes memory call = banned ? abi.encodeCall(registry.ban, (number, "stolen")) : abi.encodeCall(registry.unban, (number));
        _expect(_sender(who), address(registry), call, refusal);
    }

    /// @notice Transfers the ownership to the other owner, in two steps.
    function handOver() external {
        address next = owner == address(this) ? OTHER_OWNER : address(this);
        _expect(owner, address(registry), abi.encodeCall(registry.transferOwnership, (next)), "");
        _expect(next, address(registry), abi.encodeCall(registry.acceptOwnership, ()), "");
        owner = next;
    }

    function roll() external {
        KEYS.roll(block.number + 1);
        vm.warp(block.timestamp + 12);
    }

    function partyAt(uint256 index) external view returns (Party memory) {
        return _parties[index];
    }

    function modelAt(uint256 index) external view returns (Model memory) {
        return _models[index];
    }

    function things() external view returns (Thing[] memory) {
        return _things;
    }

    function lots() external view returns (Lot[] memory) {
        return _lots;
    }

    function deviceKeyAt(uint256 index) external view returns (bytes32, bytes32) {
        return (_deviceKeys[index][0], _deviceKeys[index][1]);
    }

    function blocks() external view returns (uint256) {
        return siteOfBlock.length;
    }

    function accountAt(uint256 index) external pure returns (address) {
        return KEYS.addr(_accountKey(index));
    }

    function updateOf(uint256 update) public pure returns (uint64 chain, address blockOta, bytes32 product) {
        return (uint64(1 + update / 2), address(0xB10C), update % 2 == 0 ? bytes32("app") : bytes32("cfg"));
    }

    function hasBlocks(uint256 which) public view returns (bool found) {
        for (uint256 i = 0; i < siteOfBlock.length; ++i) found = found || siteOfBlock[i] == which + 1;
    }

    /// @notice The quantity of numbers that are left to a site.
    function leftOf(uint256 which) external view returns (uint64 left) {
        for (uint256 i = 0; i < _ranges[which].length; ++i) left += _ranges[which][i][1] - _ranges[which][i][0];
    }

    function _added(
        IDeviceRegistry.Registration memory thing,
        uint256 party,
        uint256 spec,
        bytes memory signature,
        uint256 key
    ) private returns (bytes memory refusal) {
        uint256 which = _siteIndex(thing.site);
        refusal = _foreignSpec(spec, party);
        if (refusal.length == 0) refusal = _noNumbers(which, 1);
        for (uint256 i = 0; i < _things.length && refusal.length == 0; ++i) {
            if (keccak256(_things[i].nonce) == keccak256(thing.nonce)) {
                refusal = abi.encodeWithSelector(IDeviceRegistry.NonceTaken.selector, thing.nonce, _things[i].number);
            }
        }
        for (uint256 i = 0; i < _things.length && refusal.length == 0; ++i) {
            if (keccak256(bytes(_things[i].firstAlias)) == keccak256(bytes(thing.aliases[0]))) {
                refusal = abi.encodeWithSelector(IDeviceRegistry.AliasTaken.selector, thing.aliases[0], _things[i].number);
            }
        }
        if (refusal.length == 0 && thing.keyX != 0) refusal = _keyRefusal(key >> 8, thing.keyX, thing.keyY);
        if (refusal.length != 0) return refusal;

        uint64 number = _take(which, 1);
        if (thing.keyX != 0) deviceOfKey[(key >> 8) % DEVICE_KEYS] = number;
        bytes memory deviceKey = thing.keyX == 0 ? bytes("") : abi.encodePacked(thing.keyX, thing.keyY);
        _things.push(
            Thing({
                number: number,
                registrant: party,
                spec: spec,
                nonce: thing.nonce,
                firstAlias: thing.aliases[0],
                imported: signature.length != 0,
                key: deviceKey,
                ban: IDeviceRegistry.Ban.None,
                versions: 1,
                block: uint64(block.number)
            })
        );
    }

    function _changed(uint256 index) private {
        ++_things[index].versions;
        _things[index].block = uint64(block.number);
    }

    /// @dev Takes numbers as a queue: a range with too few is left for good.
    function _take(uint256 which, uint64 count) private returns (uint64 first) {
        uint64[2][] storage ranges = _ranges[which];
        uint256 at = 0;
        for (; ranges[at][1] - ranges[at][0] < count; ++at) ranges[at][0] = ranges[at][1];
        first = ranges[at][0];
        ranges[at][0] += count;
    }

    function _noNumbers(uint256 which, uint64 count) private view returns (bytes memory refusal) {
        if (!hasBlocks(which)) return abi.encodeWithSelector(IDeviceSites.SiteUnknown.selector, uuids[which]);
        for (uint256 i = 0; i < _ranges[which].length; ++i) {
            if (_ranges[which][i][1] - _ranges[which][i][0] >= count) return refusal;
        }
        return abi.encodeWithSelector(IDeviceSites.NumbersMissing.selector, uuids[which], count);
    }

    function _registration(
        uint256 party,
        uint256 spec,
        uint256 serial,
        uint256 seed,
        uint256 key
    ) private view returns (IDeviceRegistry.Registration memory thing) {
        thing.registrant = _parties[party].name;
        thing.nonce = abi.encodePacked("nonce ", uint8((seed % 8 == 7 ? seed >> 8 : serial) % 64));
        thing.aliases = new string[](1);
        string memory beginning = string.concat(_nameOf(party), "/", _models[spec].name, "/");
        thing.aliases[0] = string.concat(beginning, string(_digits(serial % 64)));
        thing.spec = _models[spec].name;
        uint256 which = (seed >> 16) % 16; // mostly a site with blocks, so that most registrations succeed
        for (; which >= SITES && !hasBlocks(which % SITES); ) ++which;
        thing.site = uuids[which % SITES];
        if (key % 2 == 0) (thing.keyX, thing.keyY) = (_deviceKeys[(key >> 8) % DEVICE_KEYS][0], _deviceKeys[(key >> 8) % DEVICE_KEYS][1]);
    }

    function _keyRefusal(uint256 key, bytes32 x, bytes32 y) private view returns (bytes memory refusal) {
        if (x != _deviceKeys[key % DEVICE_KEYS][0]) return abi.encodeWithSelector(IDeviceRegistry.DeviceKeyInvalid.selector, x, y);
        uint64 taken = deviceOfKey[key % DEVICE_KEYS];
        if (taken != 0) return abi.encodeWithSelector(IDeviceRegistry.DeviceKeyTaken.selector, taken);
    }

    function _banRefusal(
        Thing storage thing,
        IDeviceRegistry.Ban by,
        bool banned
    ) private view returns (bytes memory refusal) {
        if (banned && thing.ban >= by) {
            return abi.encodeWithSelector(IDeviceRegistry.DeviceAlreadyBanned.selector, thing.number, thing.ban);
        }
        if (!banned && (thing.ban == IDeviceRegistry.Ban.None || thing.ban > by)) {
            return abi.encodeWithSelector(IDeviceRegistry.DeviceNotBanned.selector, thing.number, thing.ban);
        }
    }

    /// @dev A device of the model, or in few calls a number that no device has.
    function _device(uint256 which) private view returns (bool found, uint256 index, uint64 number) {
        if (which % 16 == 15 || _things.length == 0) return (false, 0, 5);
        index = (which >> 4) % _things.length;
        return (true, index, _things[index].number);
    }

    /// @dev A spec of a party if it has one, so that most registrations succeed.
    function _specOf(uint256 party) private view returns (uint256 spec) {
        for (spec = 0; spec < MODELS - 1 && _models[spec].registrant != party + 1; ) ++spec;
    }

    function _foreignSpec(uint256 spec, uint256 party) private view returns (bytes memory) {
        bytes32 specHash = keccak256(bytes(_models[spec].name));
        uint256 registrant = _models[spec].registrant;
        if (registrant == 0) return abi.encodeWithSelector(IDeviceRegistrants.SpecUnknown.selector, specHash);
        if (registrant == party + 1) return "";
        bytes32 name = _parties[registrant - 1].name;
        return abi.encodeWithSelector(IDeviceRegistrants.SpecOfAnotherRegistrant.selector, specHash, name);
    }

    function _unknown(Party storage party) private view returns (bytes memory refusal) {
        if (!party.admitted) return abi.encodeWithSelector(IDeviceRegistrants.RegistrantUnknown.selector, party.name);
    }

    function _accountRefusal(uint256 account) private view returns (bytes memory refusal) {
        if (account % ACCOUNTS == ACCOUNTS - 1 && account % 3 == 0) {
            return abi.encodeWithSelector(IDeviceRegistrants.AccountMissing.selector);
        }
        address candidate = KEYS.addr(_accountKey(account));
        if (partyOf[candidate] == 0) return refusal;
        bytes32 name = _parties[partyOf[candidate] - 1].name;
        return abi.encodeWithSelector(IDeviceRegistrants.RegistrantAccountTaken.selector, candidate, name);
    }

    function _isTaken(bytes memory publicKey) private view returns (bool taken) {
        for (uint256 i = 0; i < PARTIES; ++i) taken = taken || keccak256(_parties[i].publicKey) == keccak256(publicKey);
    }

    /// @dev What the sender is refused as a registrant; else its party.
    function _calling(uint256 who) private view returns (bytes memory refusal, uint256 party) {
        address sender = _sender(who);
        party = partyOf[sender];
        if (party == 0 || KEYS.addr(_parties[party - 1].key) != sender) {
            return (abi.encodeWithSelector(IDeviceRegistrants.NotARegistrant.selector, sender), 0);
        }
        --party;
        if (!_parties[party].suspended) return (refusal, party);
        return (abi.encodeWithSelector(IDeviceRegistrants.RegistrantIsSuspended.selector, _parties[party].name), party);
    }

    function _owned(uint256 who) private view returns (bytes memory refusal) {
        address sender = _sender(who);
        if (sender != owner) return abi.encodeWithSelector(Ownable.OwnableUnauthorizedAccount.selector, sender);
    }

    /// @dev The owner, an Administrator, one of the accounts that registrants have or had, or a stranger.
    function _sender(uint256 who) private view returns (address) {
        who %= 12;
        if (who < 5) return owner;
        if (who < 5 + ACCOUNTS) return KEYS.addr(_accountKey(who - 5));
        return who == 10 ? ADMIN : STRANGER;
    }

    function _siteIndex(bytes16 site) private view returns (uint256 index) {
        while (uuids[index] != site) ++index;
    }

    function _nameOf(uint256 party) private pure returns (string memory) {
        return party == 0 ? "acme" : party == 1 ? "bolt" : "city";
    }

    function _accountKey(uint256 account) private pure returns (uint256) {
        return 0xA1 + (account % ACCOUNTS);
    }

    function _badSignature() private pure returns (bytes memory) {
        return abi.encodeWithSelector(IDeviceRegistrants.SignatureLengthInvalid.selector, 0, 255);
    }

    function _digits(uint256 number) private pure returns (bytes memory) {
        return abi.encodePacked(uint8(48 + number / 10), uint8(48 + (number % 10)));
    }
}
